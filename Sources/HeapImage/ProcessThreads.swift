// SPDX-License-Identifier: MIT
import Glibc

/// The kernel's threads of a process, and where each of them is.
package struct ProcessThreads: Sendable {
    package struct Thread: Equatable, Sendable {
        package var tid: Int32
        /// Its number in the innermost pid namespace.
        package var innerTid: Int32
        /// The processor it ran on last.
        package var processor: Int?
        /// At most 15 bytes, as the kernel keeps it.
        package var name: String
        /// 0 while it runs.
        package var stackPointer: UInt64
        /// An address on its stack, where the heap noted one: known of a thread that runs, too.
        package var stackAt: UInt64 = 0
        package var programCounter: UInt64

        package init(
            tid: Int32, innerTid: Int32, processor: Int? = nil, name: String,
            stackPointer: UInt64 = 0, programCounter: UInt64 = 0
        ) {
            (self.tid, self.innerTid, self.processor) = (tid, innerTid, processor)
            self.name = name
            (self.stackPointer, self.programCounter) = (stackPointer, programCounter)
        }

        /// Tells whether an address of its stack is below all that is in use; false while it runs,
        /// or is on another stack.
        package func isUnused(_ address: UInt64, of stack: Mapping) -> Bool {
            stack.range.contains(stackPointer) && address < stackPointer
        }
    }

    package private(set) var threads: [Thread] = []
    /// The number of the thread that the process began with, whose stack the kernel names.
    private var first: Int32?

    package init(_ threads: [Thread] = [], first: Int32? = nil) {
        self.threads = threads
        self.first = first
    }

    /// Adds what the heap knows of where their stacks are.
    package mutating func addStacks(_ known: [HeapThread]) {
        let live = known.filter { $0.isLive && $0.stackAt != 0 }
        let stacks = Dictionary(live.map { ($0.tid, $0.stackAt) }) { first, _ in first }
        for index in threads.indices {
            let tid = UInt32(bitPattern: threads[index].innerTid)
            threads[index].stackAt = stacks[tid] ?? 0
        }
    }

    /// The thread that has its stack in a mapping.
    package func thread(onStack mapping: Mapping) -> Thread? {
        threads.first { mapping.range.contains($0.stackPointer) }
            ?? threads.first { mapping.range.contains($0.stackAt) }
            ?? (mapping.name == "[stack]" ? threads.first { $0.tid == first } : nil)
    }

    /// Threads by their number; none of a process that has ended.
    package init(of pid: Int32) {
        first = pid
        for name in Descriptor.names(in: "/proc/\(pid)/task") {
            guard let tid = Int32(name) else { continue }
            let folder = "/proc/\(pid)/task/\(tid)"
            let title = Descriptor.contents(of: folder + "/comm").map {
                String(decoding: $0.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
            }
            let status = Descriptor.contents(of: folder + "/status") ?? []
            let place = Self.place(Descriptor.contents(of: folder + "/syscall") ?? [])
            threads.append(
                Thread(
                    tid: tid, innerTid: Self.innerTid(status) ?? tid,
                    processor: Self.processor(of: folder), name: title ?? "",
                    stackPointer: place.stack, programCounter: place.program))
        }
        threads.sort { $0.tid < $1.tid }
    }

    /// Of the form 0x1f.
    private static func number(_ text: ArraySlice<UInt8>) -> UInt64? {
        UInt64(String(decoding: text.dropFirst(2), as: UTF8.self), radix: 16)
    }

    /// Field 39 of its stat, counted from 3 behind the name, which may hold spaces and brackets.
    private static func processor(of folder: String) -> Int? {
        guard let stat = Descriptor.contents(of: folder + "/stat"),
            let close = stat.lastIndex(of: UInt8(ascii: ")"))
        else { return nil }
        let fields = stat[(close + 1)...].split(separator: UInt8(ascii: " "))
        return fields.count > 36 ? Int(String(decoding: fields[36], as: UTF8.self)) : nil
    }

    private static func innerTid(_ status: [UInt8]) -> Int32? {
        for line in status.split(separator: UInt8(ascii: "\n"))
        where line.starts(with: "NSpid:".utf8) {
            let last = line.split { $0 <= UInt8(ascii: " ") }.last
            return last.flatMap { Int32(String(decoding: $0, as: UTF8.self)) }
        }
        return nil
    }

    /// One word of a thread that runs, else number, arguments, stack pointer, program counter.
    private static func place(_ text: [UInt8]) -> (stack: UInt64, program: UInt64) {
        let words = text.split { $0 <= UInt8(ascii: " ") }
        guard words.count >= 3, let stack = number(words[words.count - 2]),
            let program = number(words[words.count - 1])
        else { return (0, 0) }
        return (stack, program)
    }

    /// By the number the process itself knows it by, which is another one in a container.
    package subscript(inner tid: UInt32) -> Thread? {
        threads.first { $0.innerTid == Int32(truncatingIfNeeded: tid) }
    }

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
