// SPDX-License-Identifier: MIT
import Glibc
import HeapImage
import Reports

extension Output {
    /// Writes what was rendered to a file, whole or not at all: a file beside it takes its place.
    ///
    /// What is no regular file (a device, a pipe, a link) stays what it is, and is written to.
    consuming func save(to path: String) throws {
        let bytes = takeBytes()
        var status = stat()
        let isReplaced = lstat(path, &status) != 0 || status.st_mode & S_IFMT == S_IFREG
        let part = isReplaced ? path + ".part" : path
        let file = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard file >= 0 else { throw SavingError.cannotSave(path, errno) }
        var rest = bytes[...]
        var code: Int32 = 0
        while !rest.isEmpty, code == 0 {
            let count = rest.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            if count < 0, errno != EINTR { code = errno }
            rest = rest.dropFirst(max(0, count))
        }
        if close(file) != 0, code == 0 { code = errno }
        if code == 0, isReplaced, rename(part, path) != 0 { code = errno }
        guard code == 0 else {
            if isReplaced { unlink(part) }
            throw SavingError.cannotSave(path, code)
        }
    }
}

enum SavingError: Error, Equatable, CustomStringConvertible {
    case cannotSave(String, Int32)

    var description: String {
        switch self {
        case .cannotSave(let path, let code):
            "can't write \(path): \(message(code)) — name another file, or make room"
        }
    }
}
