// SPDX-License-Identifier: MIT
// Debug files from a server. Nothing is asked unless the user's environment names servers in
// DEBUGINFOD_URLS; then libdebuginfod, opened when first needed, asks them and keeps what it gets in
// the user's cache. A server that hangs must not hang a report: each file has its time, and a few
// files that took longer end the asking.

import Glibc
import Synchronization

/// When the file asked for is given up, in seconds of time(2); for the callback, which has no other
/// way to know.
private let deadline = Atomic<Int>(0)

final class Debuginfod {
    private let functions: Functions
    private var slowFiles = 0

    private static let secondsPerFile = 30
    private static let slowFilesLimit = 3

    private typealias Client = OpaquePointer
    private typealias Progress = @convention(c) (Client?, Int, Int) -> Int32
    private struct Functions {
        let begin: @convention(c) () -> Client?
        let end: @convention(c) (Client?) -> Void
        let setProgress: @convention(c) (Client?, Progress?) -> Void
        let find:
            @convention(c) (
                Client?, UnsafePointer<UInt8>?, Int32,
                UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
            ) -> Int32
    }

    /// Nil unless servers are named and the library is installed.
    init?() {
        guard let urls = getenv("DEBUGINFOD_URLS"), urls[0] != 0,
            let library = dlopen("libdebuginfod.so.1", RTLD_NOW | RTLD_LOCAL),
            let begin = dlsym(library, "debuginfod_begin"),
            let end = dlsym(library, "debuginfod_end"),
            let setProgress = dlsym(library, "debuginfod_set_progressfn"),
            let find = dlsym(library, "debuginfod_find_debuginfo")
        else { return nil }
        functions = Functions(
            begin: unsafeBitCast(begin, to: (@convention(c) () -> Client?).self),
            end: unsafeBitCast(end, to: (@convention(c) (Client?) -> Void).self),
            setProgress: unsafeBitCast(
                setProgress, to: (@convention(c) (Client?, Progress?) -> Void).self),
            find: unsafeBitCast(
                find,
                to: (@convention(c) (
                    Client?, UnsafePointer<UInt8>?, Int32,
                    UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
                ) -> Int32).self))
    }

    /// Path of the debug file, in the user's cache.
    func debugFile(buildID: [UInt8]) -> String? {
        guard slowFiles < Self.slowFilesLimit, let client = functions.begin() else { return nil }
        defer { functions.end(client) }
        let end = time(nil) + Self.secondsPerFile
        deadline.store(end, ordering: .relaxed)
        functions.setProgress(client) { _, _, _ in
            time(nil) < deadline.load(ordering: .relaxed) ? 0 : 1
        }
        var path: UnsafeMutablePointer<CChar>?
        let descriptor = functions.find(client, buildID, Int32(buildID.count), &path)
        defer { free(path) }
        if time(nil) >= end { slowFiles += 1 }
        guard descriptor >= 0 else { return nil }
        close(descriptor)
        return path.map { String(cString: $0) }
    }
}
