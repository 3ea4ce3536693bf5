// SPDX-License-Identifier: MIT
import Glibc

/// A file that is named like a region, but can't be read as one: made by another version of
/// memctl, or damaged.
package struct OtherRegion: Sendable {
    package var file: RegionFile
    /// Why it can't be read.
    package var reason: HeapImageError
    /// Whether a process that can be seen from here has it, or may have.
    package var isInUse: Bool
}

extension RegionDirectory {
    /// What entries() leaves out of its folders.
    ///
    /// What such a file says of its process can't be read either; the mappings of all processes tell
    /// whether one has it.
    package func others() -> [OtherRegion] {
        var found: [OtherRegion] = []
        var users: RegionUsers?
        for (folder, _) in folders() {
            for name in Descriptor.names(in: folder) where Self.generation(of: name) != nil {
                guard let file = try? RegionFile(path: folder + "/" + name) else { continue }
                do throws(HeapImageError) {
                    _ = try file.header()
                } catch {
                    users = users ?? RegionUsers()
                    found.append(
                        OtherRegion(file: file, reason: error, isInUse: users?.have(file) ?? true))
                }
                file.rest()
            }
        }
        return found
    }

    /// Removes the file.
    package func remove(_ other: OtherRegion) throws(HeapImageError) {
        try remove(other.file)
    }
}

/// All shared mappings of files, of all processes that can be seen from here.
private struct RegionUsers {
    private var mappings: [FileMapping] = []
    /// Processes that may not be looked into, by their own numbers.
    private var hidden: Set<Int32> = []

    init() {
        for pid in ProcessStatus.pids() {
            if let shared = FileMapping.shared(of: pid) {
                mappings += shared
            } else if let status = ProcessStatus(pid: pid), !status.isEnding {
                hidden.insert(status.innerPid)
            }
        }
    }

    func have(_ file: RegionFile) -> Bool {
        let name = file.path.split(separator: "/").last.map(String.init) ?? ""
        return Int32(name).map(hidden.contains) == true || mappings.contains { $0.isOf(file) }
    }
}
