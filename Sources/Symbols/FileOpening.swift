// SPDX-License-Identifier: MIT
// Opening files whose names another process chose. Such a name may lead to a FIFO nobody writes to,
// a device that acts when opened, a directory, a file of /proc that blocks when read. So a name is
// first looked up without opening it; only a regular file with content is then opened.

import CDw
import Glibc

/// A descriptor of a regular file; closed when the value goes away.
final class OpenFile {
    let descriptor: Int32
    let size: Int
    /// Equal for two names of one file.
    let identity: Identity

    struct Identity: Hashable {
        let device: UInt64
        let inode: UInt64
    }

    enum Failure: Error, Equatable {
        case absent
        case notRegular
        case refused(Int32)

        var reason: String {
            switch self {
            case .absent: "no such file"
            case .notRegular: "not a regular file"
            case .refused(let code): String(cString: strerror(code))
            }
        }
    }

    /// Opens `path` as a process whose root directory is `root` sees it; "" means our own root.
    init(_ path: String, root: String) throws(Failure) {
        guard !path.isEmpty, !path.utf8.contains(0) else { throw .absent }
        let name = root.isEmpty ? open(path, MC_O_PATH | MC_O_CLOEXEC) : mc_name_file(root, path)
        guard name >= 0 else { throw Self.failure(errno) }
        defer { close(name) }
        var status = stat()
        guard fstat(name, &status) == 0 else { throw Self.failure(errno) }
        guard status.st_mode & S_IFMT == S_IFREG, status.st_size > 0 else { throw .notRegular }
        // The descriptor is opened again through its own name: whatever the path means by now, this
        // is the file that was looked at.
        descriptor = open(
            "/proc/self/fd/\(name)", O_RDONLY | O_NONBLOCK | O_NOCTTY | MC_O_CLOEXEC)
        guard descriptor >= 0 else { throw Self.failure(errno) }
        size = Int(status.st_size)
        identity = Identity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
    }

    deinit { close(descriptor) }

    private static func failure(_ code: Int32) -> Failure {
        code == ENOENT || code == ENOTDIR ? .absent : .refused(code)
    }

    /// The whole file, or as much of it as there is.
    func contents() -> [UInt8]? {
        var failed = false
        let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, filled in
            while filled < size {
                let count = pread(
                    descriptor, buffer.baseAddress.map { $0 + filled }, size - filled, off_t(filled)
                )
                if count < 0, errno == EINTR { continue }
                failed = count < 0
                guard count > 0 else { return }
                filled += count
            }
        }
        return failed ? nil : bytes
    }

    /// The checksum `.gnu_debuglink` records, of the whole file.
    func crc32() -> UInt32? {
        var crc = CRC32()
        var buffer = [UInt8](repeating: 0, count: 1 << 18)
        var offset = 0
        while offset < size {
            let count = pread(descriptor, &buffer, buffer.count, off_t(offset))
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return nil }
            crc.add(buffer[..<count])
            offset += count
        }
        return crc.value
    }
}

/// The CRC of zlib and of `objcopy --add-gnu-debuglink`.
struct CRC32 {
    private static let table: [UInt32] = (0..<256).map { (index: UInt32) in
        (0..<8).reduce(index) { rest, _ in
            rest & 1 == 0 ? rest >> 1 : (rest >> 1) ^ 0xedb8_8320
        }
    }
    private var state: UInt32 = .max
    var value: UInt32 { ~state }

    mutating func add(_ bytes: some Sequence<UInt8>) {
        Self.table.withUnsafeBufferPointer { table in
            for byte in bytes {
                state = (state >> 8) ^ table[Int(UInt8(truncatingIfNeeded: state) ^ byte)]
            }
        }
    }
}

/// What a symbolic link says, or nil.
func linkTarget(_ path: String) -> String? {
    var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
    let count = buffer.withUnsafeMutableBytes { bytes in
        bytes.withMemoryRebound(to: CChar.self) { characters in
            characters.baseAddress.map { readlink(path, $0, characters.count) } ?? -1
        }
    }
    return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
}

/// What is before the last slash of a path.
func directory(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return String(path[..<slash])
}

/// Names in a directory, without "." and ".."; empty when it can't be read.
func directoryEntries(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name != ".", name != ".." { names.append(name) }
    }
    return names
}
