// SPDX-License-Identifier: MIT

/// What /proc/PID/status says of a process' memory, in bytes.
package struct ResidentSize: Equatable, Sendable {
    /// VmRSS: pages that have memory.
    package var resident: UInt64 = 0
    /// VmHWM: the most there ever were.
    package var peak: UInt64 = 0
    /// VmSwap.
    package var swapped: UInt64 = 0
    package var anonymous: UInt64 = 0
    package var file: UInt64 = 0
    package var shared: UInt64 = 0
    /// In hugetlbfs; no part of `resident`.
    package var hugetlb: UInt64 = 0
    /// Page tables; no part of `resident`.
    package var tables: UInt64 = 0

    package init() {}

    /// nil when the process has ended.
    package init?(of pid: Int32) {
        guard let text = Descriptor.contents(of: "/proc/\(pid)/status") else { return nil }
        self.init(status: text)
    }

    init(status text: [UInt8]) {
        for line in text.split(separator: UInt8(ascii: "\n")) {
            let words = line.split { $0 == UInt8(ascii: "\t") || $0 == UInt8(ascii: " ") }
            guard words.count == 3, words[2].elementsEqual("kB".utf8),
                let number = UInt64(String(decoding: words[1], as: UTF8.self))
            else { continue }
            let bytes = number.times(1024)
            switch String(decoding: words[0], as: UTF8.self) {
            case "VmRSS:": resident = bytes
            case "VmHWM:": peak = bytes
            case "VmSwap:": swapped = bytes
            case "RssAnon:": anonymous = bytes
            case "RssFile:": file = bytes
            case "RssShmem:": shared = bytes
            case "HugetlbPages:": hugetlb = bytes
            case "VmPTE:": tables = bytes
            default: break
            }
        }
    }
}
