// SPDX-License-Identifier: MIT
import Glibc

/// An open file that is closed with its owner.
///
/// Every call is repeated when a signal interrupts it.
package final class Descriptor: @unchecked Sendable {
    package let number: Int32
    package let path: String

    /// Never waits (a FIFO has no writer), never follows a link at the end of the path unless
    /// `following`, and is not inherited by a program that is started.
    package init(
        opening path: String, _ access: Int32 = O_RDONLY, following: Bool = false
    ) throws(HeapImageError) {
        let flags = access | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (following ? 0 : O_NOFOLLOW)
        let opened = repeating { open(path, flags) }
        guard opened >= 0 else { throw .cannotOpen(path: path, code: errno) }
        number = opened
        self.path = path
    }

    deinit {
        close(number)
    }

    package func status() throws(HeapImageError) -> stat {
        var result = stat()
        guard fstat(number, &result) == 0 else { throw .cannotOpen(path: path, code: errno) }
        return result
    }

    /// Bytes read; fewer than asked for only at the end of the file.
    package func read(
        at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(HeapImageError) -> Int {
        var done = 0
        while done < buffer.count {
            guard let position = off_t(exactly: offset.plus(UInt64(done))),
                let start = buffer.baseAddress
            else { break }
            let count = repeating { pread(number, start + done, buffer.count - done, position) }
            if count < 0 { throw .cannotOpen(path: path, code: errno) }
            if count == 0 { break }
            done += count
        }
        return done
    }

    package func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(HeapImageError) {
        let count = repeating { pwrite(number, bytes.baseAddress, bytes.count, off_t(offset)) }
        guard count == bytes.count else {
            throw .cannotWrite(path: path, code: count < 0 ? errno : EIO)
        }
    }

    /// The whole of a file that has no size of its own (/proc), up to `limit` bytes; nil when it
    /// can't be read.
    package static func contents(of path: String, limit: Int = 1 << 26) -> [UInt8]? {
        guard let file = try? Descriptor(opening: path, following: true) else { return nil }
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 1 << 16)
        while bytes.count < limit {
            let count = part.withUnsafeMutableBytes { buffer in
                repeating { Glibc.read(file.number, buffer.baseAddress, buffer.count) }
            }
            if count < 0 { return nil }
            if count == 0 { break }
            bytes.append(contentsOf: part[..<count])
        }
        return bytes
    }

    /// What a symbolic link names; nil when there is none or it may not be read.
    package static func link(at path: String) -> String? {
        var bytes = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = readlink(path, &bytes, bytes.count)
        return count < 0
            ? nil : String(decoding: bytes[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// Names in a folder, sorted; empty when it can't be read.
    package static func names(in folder: String) -> [String] {
        guard let handle = opendir(folder) else { return [] }
        defer { closedir(handle) }
        var names: [String] = []
        while let entry = readdir(handle) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }
}

/// Calls again while the result is -1 and errno EINTR.
private func repeating<Result: SignedInteger>(_ call: () -> Result) -> Result {
    while true {
        let result = call()
        if result != -1 || errno != EINTR { return result }
    }
}
