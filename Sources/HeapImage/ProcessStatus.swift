// SPDX-License-Identifier: MIT
import Glibc

/// What /proc tells everybody about a process.
package struct ProcessStatus: Equatable, Sendable {
    package var pid: Int32
    /// Last part of the executable as the kernel keeps it: at most 15 bytes.
    package var name: String
    package var state: Character
    package var uid: UInt32
    /// The pid it has in its own, innermost, pid namespace.
    package var innerPid: Int32
    /// Boot time of the fork that made it; never later than its exec.
    package var startNanoseconds: UInt64

    /// Ended, but its parent has not yet asked how.
    package var isEnding: Bool { state == "Z" || state == "X" }

    /// nil when there is no such process.
    package init?(pid: Int32) {
        guard let stat = Descriptor.contents(of: "/proc/\(pid)/stat"),
            let open = stat.firstIndex(of: UInt8(ascii: "(")),
            let close = stat.lastIndex(of: UInt8(ascii: ")")), open < close,
            let status = Descriptor.contents(of: "/proc/\(pid)/status")
        else { return nil }
        // Fields are counted from 3 behind the name, which may hold spaces and brackets.
        let fields = stat[(close + 1)...].split(separator: UInt8(ascii: " "))
        guard fields.count > 19, let state = fields[0].first,
            let ticks = UInt64(String(decoding: fields[19], as: UTF8.self))
        else { return nil }
        self.pid = pid
        self.state = Character(UnicodeScalar(state))
        name = String(decoding: stat[(open + 1)..<close], as: UTF8.self)
        let perSecond = UInt64(max(1, sysconf(Int32(_SC_CLK_TCK))))
        startNanoseconds = ticks.times(1_000_000_000 / perSecond)
        var uid: UInt32 = 0
        var inner = pid
        for line in status.split(separator: UInt8(ascii: "\n")) {
            let words = line.split { $0 == UInt8(ascii: "\t") || $0 == UInt8(ascii: " ") }
            guard let key = words.first, words.count > 1 else { continue }
            if key.elementsEqual("Uid:".utf8) {
                uid = UInt32(String(decoding: words[1], as: UTF8.self)) ?? 0
            } else if key.elementsEqual("NSpid:".utf8), let last = words.last {
                inner = Int32(String(decoding: last, as: UTF8.self)) ?? pid
            }
        }
        self.uid = uid
        innerPid = inner
    }

    /// Every process that can be seen.
    package static func pids() -> [Int32] {
        Descriptor.names(in: "/proc").compactMap { Int32($0) }
    }
}

/// A line of /proc/PID/maps that has a file.
package struct FileMapping: Equatable, Sendable {
    package var start: UInt64
    package var end: UInt64
    package var isShared: Bool
    package var offset: UInt64
    package var device: UInt64
    package var inode: UInt64
    package var path: String

    /// Tells whether it maps that file.
    ///
    /// Some file systems show another device in maps than in stat(2).
    func isOf(_ file: RegionFile) -> Bool {
        inode == file.inode && (device == file.device || file.path.hasSuffix(path))
    }

    /// The shared mappings of a process; nil when it may not be asked.
    package static func shared(of pid: Int32) -> [FileMapping]? {
        guard let text = Descriptor.contents(of: "/proc/\(pid)/maps", limit: 1 << 28) else {
            return nil
        }
        return text.split(separator: UInt8(ascii: "\n")).compactMap { line in
            FileMapping(line: line).flatMap { $0.isShared ? $0 : nil }
        }
    }

    /// A mapping without a file is none.
    init?(line: ArraySlice<UInt8>) {
        guard let mapping = Mapping(line: line), mapping.isFile, !mapping.name.isEmpty else {
            return nil
        }
        start = mapping.range.lowerBound
        end = mapping.range.upperBound
        isShared = mapping.isShared
        offset = mapping.offset
        device = mapping.device
        inode = mapping.inode
        path = mapping.name
    }
}

/// Boot time now: the clock regions and /proc/PID/stat count in.
package func bootTimeNanoseconds() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_BOOTTIME, &now)
    return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
}
