// SPDX-License-Identifier: MIT
import CRegion
import Glibc
import Testing

@testable import HeapImage

/// Reading this very process, which is allowed everywhere.
@Suite struct LiveProcessTests {
    private let memory = LiveProcess(pid: getpid())

    @Test func bytesAreRead() throws {
        let bytes: [UInt8] = [1, 2, 3, 4, 5]
        var copy = [UInt8](repeating: 0, count: 5)
        try bytes.withUnsafeBytes { source throws in
            let address = UInt64(UInt(bitPattern: source.baseAddress))
            try memory.load(into: &copy, from: address)
        }
        #expect(copy == bytes)
    }

    @Test func whereNothingIsNothingIsRead() {
        var copy: [UInt8] = [0]
        #expect(throws: HeapImageError.unreadable(address: 0)) {
            try memory.load(into: &copy, from: 0)
        }
        #expect(throws: HeapImageError.unreadable(address: 8)) {
            try memory.load(into: &copy, from: 8)
        }
        #expect(throws: HeapImageError.unreadable(address: .max)) {
            try memory.load(into: &copy, from: .max)
        }
    }

    @Test func aBatchTellsWhatCouldNotBeRead() throws {
        let words: [UInt64] = [11, 22, 33]
        try words.withUnsafeBytes { source throws in
            let start = UInt64(UInt(bitPattern: source.baseAddress))
            let ranges = [
                MemoryRange(start: start, size: 8), MemoryRange(start: 8, size: 8),
                MemoryRange(start: start + 16, size: 8),
            ]
            var copy = [UInt64](repeating: 99, count: 3)
            var whole: [Bool] = []
            try withBytes(of: &copy) { (buffer) throws(HeapImageError) in
                whole = try memory.read(ranges, into: buffer)
            }
            #expect(whole == [true, false, true])
            #expect(copy == [11, 0, 33])
        }
    }

    @Test func moreRangesThanACallTakes() throws {
        let words = (0..<3000).map { UInt64($0) }
        try words.withUnsafeBytes { source throws in
            let start = UInt64(UInt(bitPattern: source.baseAddress))
            let ranges = words.indices.map { MemoryRange(start: start + UInt64($0) * 8, size: 8) }
            var copy = [UInt64](repeating: 0, count: words.count)
            var whole: [Bool] = []
            try withBytes(of: &copy) { (buffer) throws(HeapImageError) in
                whole = try memory.read(ranges, into: buffer)
            }
            #expect(!whole.contains(false))
            #expect(copy == words)
        }
    }

    @Test func aProcessThatIsNotThereIsGone() {
        var copy: [UInt8] = [0]
        #expect(throws: HeapImageError.gone(pid: 0x7fff_fff0)) {
            try LiveProcess(pid: 0x7fff_fff0).load(into: &copy, from: 4096)
        }
        #expect(ProcessStatus(pid: 0x7fff_fff0) == nil)
    }

    @Test func procIsUnderstood() throws {
        let status = try #require(ProcessStatus(pid: getpid()))
        #expect(status.uid == getuid())
        #expect(!status.isEnding)
        #expect(status.startNanoseconds > 0)
        #expect(status.startNanoseconds < bootTimeNanoseconds())
    }

    /// What failed, and what to do.
    @Test func aRefusalNamesTheWayOut() {
        let strict = "\(HeapImageError.notPermitted(pid: 7, scope: 1))"
        #expect(strict.contains("kernel.yama.ptrace_scope is 1"))
        #expect(strict.contains("CAP_SYS_PTRACE"))
        #expect(strict.contains("write 0 to /proc/sys/kernel/yama/ptrace_scope"))
        // Nothing takes 3 back.
        #expect(!"\(HeapImageError.notPermitted(pid: 7, scope: 3))".contains("write 0"))
        #expect(!"\(HeapImageError.notPermitted(pid: 7, scope: nil))".contains("yama"))
    }
}
