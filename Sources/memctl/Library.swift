// SPDX-License-Identifier: MIT
import Glibc
import HeapImage

/// Where libmemctl.so is.
enum Library {
    /// $MEMCTL_LIBRARY if set; else ../lib beside memctl, as installed; else the folder SwiftPM
    /// builds it into, beside memctl.
    static func find(
        executable: String? = Descriptor.link(at: "/proc/self/exe"),
        override: String? = getenv("MEMCTL_LIBRARY").map { String(cString: $0) }
    ) throws -> String {
        if let override, !override.isEmpty {
            guard let path = resolved(override) else { throw LibraryError.notThere([override]) }
            return try usable(path)
        }
        let folder = (executable ?? "").split(separator: "/").dropLast().joined(separator: "/")
        let candidates = [
            "/\(folder)/../lib/libmemctl.so",
            "/\(folder)/memctl_CPreload.resources/libmemctl.so",
        ]
        guard let path = candidates.lazy.compactMap(resolved).first else {
            throw LibraryError.notThere(candidates)
        }
        return try usable(path)
    }

    private static func resolved(_ path: String) -> String? {
        guard let found = realpath(path, nil) else { return nil }
        defer { free(found) }
        return String(cString: found)
    }

    /// LD_PRELOAD is a list: neither of its separators can be in a name.
    private static func usable(_ path: String) throws -> String {
        guard !path.contains(where: { $0 == ":" || $0.isWhitespace }) else {
            throw LibraryError.unusable(path)
        }
        guard access(path, R_OK) == 0 else { throw LibraryError.unreadable(path, errno) }
        return path
    }
}

enum LibraryError: Error, Equatable, CustomStringConvertible {
    case notThere([String])
    case unusable(String)
    case unreadable(String, Int32)

    var description: String {
        switch self {
        case .notThere(let places):
            "libmemctl.so is not at \(places.joined(separator: " or "))"
                + " — set MEMCTL_LIBRARY to where it is"
        case .unusable(let path):
            "LD_PRELOAD can't name \(path): it has a space or a colon"
                + " — copy the library elsewhere and set MEMCTL_LIBRARY to it"
        case .unreadable(let path, let code):
            "can't read \(path): \(message(code)) — check its permissions"
        }
    }
}
