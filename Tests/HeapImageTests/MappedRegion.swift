// SPDX-License-Identifier: MIT
import Glibc

@testable import HeapImage

/// A region that this very process maps, as a traced process does its own.
///
/// One at a time, whatever tests run beside: a process is found by what it maps.
final class MappedRegion {
    let path: String
    private let folder = Folder()
    private let lock: Int32
    private let address: UnsafeMutableRawPointer?

    init(_ sample: SampleRegion, _ name: String) {
        lock = open("/proc/self/exe", O_RDONLY | O_CLOEXEC)
        flock(lock, LOCK_EX)
        path = folder.write(sample.bytes, name)
        let file = open(path, O_RDWR)
        address = mmap(nil, 4096, PROT_READ, MAP_SHARED, file, 0)
        close(file)
    }

    deinit {
        munmap(address, 4096)
        close(lock)
    }

    var directory: RegionDirectory { RegionDirectory(chosen: folder.path) }
}
