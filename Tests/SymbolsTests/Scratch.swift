// SPDX-License-Identifier: MIT
// A directory that goes away with the test, and programs run in it.

import Glibc
import Testing

struct ScratchFailure: Error, CustomStringConvertible {
    let description: String
}

final class Scratch {
    private let directory: String

    init() throws {
        var template = Array("/tmp/symbols-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw ScratchFailure(description: "no directory") }
        directory = template.withUnsafeBufferPointer { buffer in
            buffer.baseAddress.map { String(cString: $0) } ?? ""
        }
    }

    deinit { _ = try? Self.run(["rm", "-rf", directory]) }

    func path(_ name: String) -> String { name.isEmpty ? directory : "\(directory)/\(name)" }

    func write(_ text: String, to name: String) throws { try write(Array(text.utf8), to: name) }

    func write(_ bytes: [UInt8], to name: String) throws {
        guard let file = fopen(path(name), "w") else { throw ScratchFailure(description: name) }
        defer { fclose(file) }
        guard fwrite(bytes, 1, bytes.count, file) == bytes.count else {
            throw ScratchFailure(description: name)
        }
    }

    func read(_ name: String) throws -> [UInt8] {
        guard let file = fopen(path(name), "r") else { throw ScratchFailure(description: name) }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while case let count = fread(&buffer, 1, buffer.count, file), count > 0 {
            bytes += buffer[..<count]
        }
        return bytes
    }

    /// Runs a program here; returns what it printed.
    ///
    /// Throws unless it ends with 0.
    @discardableResult
    func run(_ arguments: [String], input: String = "") throws -> String {
        try write(input, to: "input")
        let status = try Self.run(
            arguments, directory: directory, input: path("input"), output: path("output"))
        let output = String(decoding: try read("output"), as: UTF8.self)
        guard status == 0 else {
            throw ScratchFailure(
                description: "\(arguments.joined(separator: " ")) ended with \(status): \(output)")
        }
        return output
    }

    private static func run(
        _ arguments: [String], directory: String = "/", input: String = "/dev/null",
        output: String = "/dev/null"
    ) throws -> Int32 {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, input, O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        let command = ["env", "-C", directory] + arguments
        var pointers: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) }
        pointers.append(nil)
        defer { pointers.forEach { free($0) } }
        var child: pid_t = 0
        let error = posix_spawnp(&child, command[0], &actions, nil, pointers, environ)
        guard error == 0 else {
            throw ScratchFailure(
                description: "\(arguments[0]): \(String(cString: strerror(error)))")
        }
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0, errno == EINTR {}
        return status
    }

    /// True when a program of this name can be run.
    static func has(_ program: String) -> Bool {
        guard let path = getenv("PATH") else { return false }
        return String(cString: path).split(separator: ":").contains {
            access("\($0)/\(program)", X_OK) == 0
        }
    }
}
