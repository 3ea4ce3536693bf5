// SPDX-License-Identifier: MIT
import Glibc

/// The kernel's threads of a process, and where each of them is.
package struct ProcessThreads: Sendable {
    package struct Thread: Equatable, Sendable {
        package var tid: Int32
        /// At most 15 bytes, as the kernel keeps it.
        package var name: String
        /// 0 while it runs.
        package var stackPointer: UInt64
        package var programCounter: UInt64
    }

    package private(set) var threads: [Thread] = []

    /// Threads by their number; none of a process that has ended.
    package init(of pid: Int32) {
        for name in Descriptor.names(in: "/proc/\(pid)/task") {
            guard let tid = Int32(name) else { continue }
            let folder = "/proc/\(pid)/task/\(tid)"
            let title = Descriptor.contents(of: folder + "/comm").map {
                String(decoding: $0.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
            }
            let place = Self.place(Descriptor.contents(of: folder + "/syscall") ?? [])
            threads.append(
                Thread(
                    tid: tid, name: title ?? "", stackPointer: place.stack,
                    programCounter: place.program))
        }
        threads.sort { $0.tid < $1.tid }
    }

    /// "running", or "number arguments ... stack-pointer program-counter".
    private static func place(_ text: [UInt8]) -> (stack: UInt64, program: UInt64) {
        let words = text.split { $0 <= UInt8(ascii: " ") }.map {
            UInt64(String(decoding: $0.drop { $0 == UInt8(ascii: "0") }.dropFirst(), as: UTF8.self), radix: 16)
        }
        guard words.count >= 3, let stack = words[words.count - 2], let program = words[words.count - 1]
        else { return (0, 0) }
        return (stack, program)
    }

    package subscript(tid: Int32) -> Thread? { threads.first { $0.tid == tid } }

    /// Tells whether a thread stands still inside a library, or in a function that it called.
    package static func anyInside(_ library: Range<UInt64>, of pid: Int32) -> Bool {
        let memory = LiveProcess(pid: pid)
        return ProcessThreads(of: pid).threads.contains { thread in
            guard thread.programCounter != 0 else { return false }
            if library.contains(thread.programCounter) { return true }
            // Called directly from it: the return address is on top of the stack.
            var top: [UInt64] = [0]
            try? memory.load(into: &top, from: thread.stackPointer)
            return library.contains(top[0])
        }
    }
}
