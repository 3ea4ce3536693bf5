// SPDX-License-Identifier: MIT
import CKernel
import Glibc

/// The general registers of a process' threads.
///
/// There is no way to see them but ptrace(2): each thread is stopped for the microseconds its
/// registers take to copy, one after the other. A call like epoll_wait(2) may return EINTR in it,
/// as it does when a debugger comes by.
package struct ThreadRegisters: Sendable {
    package struct Register: Equatable, Sendable {
        package var tid: Int32
        package var name: String
        package var value: UInt64
    }

    package private(set) var registers: [Register] = []
    /// Threads whose registers could not be had, and why.
    package private(set) var missing: [(tid: Int32, why: String)] = []
    /// The longest that a thread was stopped, and waited for.
    package private(set) var longestNanoseconds: UInt64 = 0

    package init(of threads: [ProcessThreads.Thread]) {
        for thread in threads {
            var words = [UInt64](repeating: 0, count: 64)
            var size = words.count * 8
            let start = bootTimeNanoseconds()
            let error = mc_thread_registers(thread.tid, &words, &size, Self.patience)
            longestNanoseconds = max(longestNanoseconds, bootTimeNanoseconds() - start)
            guard error == 0 else {
                if error != ESRCH { missing.append((thread.tid, message(error))) }
                continue
            }
            for (index, word) in words.prefix(size / 8).enumerated() {
                let name = index < Self.names.count ? Self.names[index] : "register \(index)"
                registers.append(Register(tid: thread.tid, name: name, value: word))
            }
        }
    }

    /// Milliseconds for a thread to come out of a system call.
    private static let patience: UInt32 = 200

    #if arch(x86_64)
        private static let names = [
            "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx",
            "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base",
            "ds",
            "es", "fs", "gs",
        ]
    #else
        private static let names = (0...30).map { "x\($0)" } + ["sp", "pc", "pstate"]
    #endif
}
