// SPDX-License-Identifier: MIT
import CKernel
import Glibc

/// The memory of a running, stopped or hung process.
///
/// It is neither stopped nor attached to.
///
/// process_vm_readv(2) reads many ranges in one call; where the kernel or a filter refuses the
/// call itself, /proc/PID/mem serves.
package final class LiveProcess: MemorySource {
    package let pid: Int32
    /// Opened at the first need.
    private var memory: Descriptor?
    private var refused = false
    private var pagemap: Descriptor?

    package init(pid: Int32) {
        self.pid = pid
    }

    package func read(
        _ address: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(HeapImageError) {
        guard buffer.count > 0 else { return }
        let end = address.addingReportingOverflow(UInt64(buffer.count))
        guard !end.overflow, address != 0 else { throw .unreadable(address: address) }
        if !refused {
            let count = transfer(
                [MemoryRange(start: address, size: buffer.count)][...], into: buffer)
            if count == buffer.count { return }
            if count >= 0 || errno == EFAULT { throw .unreadable(address: address) }
            try judge(errno)
        }
        try readFile(address, into: buffer)
    }

    package func read(
        _ ranges: [MemoryRange], into buffer: UnsafeMutableRawBufferPointer
    ) throws(HeapImageError) -> [Bool] {
        var whole = [Bool](repeating: false, count: ranges.count)
        var next = 0
        var position = 0
        while next < ranges.count {
            let limit = min(ranges.count, next + Self.batch)
            let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[position...])
            var count = refused ? -1 : transfer(ranges[next..<limit], into: rest)
            if count < 0, !refused, errno != EFAULT { try judge(errno) }
            // The ranges that came whole; the one after them can't be read that way.
            while next < limit, count >= ranges[next].size {
                count -= ranges[next].size
                position += ranges[next].size
                whole[next] = true
                next += 1
            }
            guard next < limit else { continue }
            let part = UnsafeMutableRawBufferPointer(
                rebasing: buffer[position..<position + ranges[next].size])
            do throws(HeapImageError) {
                try read(ranges[next].start, into: part)
                whole[next] = true
            } catch {
                guard case .unreadable = error else { throw error }
                part.initializeMemory(as: UInt8.self, repeating: 0)
            }
            position += ranges[next].size
            next += 1
        }
        return whole
    }

    /// Ranges a call takes: half of IOV_MAX.
    private static let batch = 512

    private func transfer(
        _ ranges: ArraySlice<MemoryRange>, into buffer: UnsafeMutableRawBufferPointer
    ) -> Int {
        let remote = ranges.map {
            iovec(iov_base: UnsafeMutableRawPointer(bitPattern: UInt($0.start)), iov_len: $0.size)
        }
        let size = min(buffer.count, ranges.reduce(0) { $0 + $1.size })
        return mc_read_process(pid, buffer.baseAddress, size, remote, remote.count)
    }

    /// By /proc/PID/pagemap; where that can't be read, all of it.
    package func populated(_ range: MemoryRange) -> [MemoryRange] {
        if pagemap == nil {
            pagemap = try? Descriptor(opening: "/proc/\(pid)/pagemap", following: true)
        }
        let page: UInt64 = 4096
        let end = range.start.plus(UInt64(range.size))
        let first = range.start / page
        guard let pagemap, end > range.start else { return [range] }
        var entries = [UInt64](repeating: 0, count: Int((end - 1) / page - first + 1))
        var bytes = 0
        try? withBytes(of: &entries) { (buffer) throws(HeapImageError) in
            bytes = try pagemap.read(at: first * 8, into: buffer)
        }
        guard bytes == entries.count * 8 else { return [range] }
        var parts: [MemoryRange] = []
        for (index, entry) in entries.enumerated() where entry >> 62 != 0 {
            let start = max(range.start, (first + UInt64(index)) * page)
            let size = Int(min(end, (first + UInt64(index) + 1) * page) - start)
            if let last = parts.last, last.start + UInt64(last.size) == start {
                parts[parts.count - 1].size += size
            } else {
                parts.append(MemoryRange(start: start, size: size))
            }
        }
        return parts
    }

    /// Turns the failure of the call itself into an error, or lets /proc/PID/mem be tried.
    private func judge(_ code: Int32) throws(HeapImageError) {
        switch code {
        case ESRCH: throw .gone(pid: pid)
        case EPERM, EACCES, ENOSYS: refused = true
        default: throw .gone(pid: pid)
        }
    }

    private func readFile(
        _ address: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(HeapImageError) {
        if memory == nil {
            do throws(HeapImageError) {
                memory = try Descriptor(opening: "/proc/\(pid)/mem", following: true)
            } catch {
                throw LiveProcess.denial(pid: pid)
            }
        }
        guard let memory, address <= UInt64(Int64.max),
            let count = try? memory.read(at: address, into: buffer), count == buffer.count
        else { throw .unreadable(address: address) }
    }

    /// Why the memory of a process that exists may not be read.
    static func denial(pid: Int32) -> HeapImageError {
        guard let status = ProcessStatus(pid: pid) else { return .gone(pid: pid) }
        let me = geteuid()
        if me != 0, status.uid != me { return .otherUser(pid: pid, uid: status.uid) }
        let scope = Descriptor.contents(of: "/proc/sys/kernel/yama/ptrace_scope")
            .flatMap { Int(String(decoding: $0.filter { $0 > 32 }, as: UTF8.self)) }
        return .notPermitted(pid: pid, scope: scope)
    }
}
