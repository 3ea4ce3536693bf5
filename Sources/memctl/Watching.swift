// SPDX-License-Identifier: MIT
import ArgumentParser
import Glibc
import HeapImage
import Reports

/// How long to watch, in the unit tags keep: quarters of a second.
struct WatchTime: ExpressibleByArgument, Equatable {
    var quarters: UInt64
    var nanoseconds: UInt64 { quarters * TaggedSlot.birthNanoseconds }

    /// A number of seconds, or one with ms, s, m or h.
    ///
    /// At least a quarter of a second, at most a month.
    init?(argument: String) {
        let digits = argument.prefix { $0.isNumber || $0 == "." }
        let unit: Double
        switch argument.dropFirst(digits.count) {
        case "", "s": unit = 1
        case "ms": unit = 0.001
        case "m", "min": unit = 60
        case "h": unit = 3600
        default: return nil
        }
        guard let number = Double(String(digits)), number * unit > 0, number * unit <= 31 * 86400
        else { return nil }
        quarters = max(1, UInt64((number * unit * 4).rounded(.up)))
    }
}

/// The clock births are counted by: quarters of a second since the region was made, or that of the
/// parent a child was forked from.
struct BirthClock {
    let start: UInt64

    /// The first quarter that has not begun.
    ///
    /// The process reads a coarse clock that lags a few milliseconds; a quarter about to begin is
    /// left out, so that it has surely not begun there.
    func nextQuarter(now: UInt64 = bootTimeNanoseconds()) -> UInt64 {
        (now + 20_000_000).minus(start) / TaggedSlot.birthNanoseconds + 1
    }

    /// When a quarter has begun for the process as well.
    func time(of quarter: UInt64) -> UInt64 {
        start.plus(quarter.times(TaggedSlot.birthNanoseconds)).plus(20_000_000)
    }
}

/// Waiting that an interrupt ends in order, so that what was changed can be put back.
struct Pause {
    private var signals = sigset_t()

    init() {
        sigemptyset(&signals)
        for number in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&signals, number) }
        sigprocmask(SIG_BLOCK, &signals, nil)
    }

    /// A fiftieth of a second, for what is asked again and again.
    static func briefly() {
        var time = timespec(tv_sec: 0, tv_nsec: 20_000_000)
        nanosleep(&time, nil)
    }

    func sleep(until end: UInt64, saying what: String? = nil) throws {
        defer { if what != nil { Terminal.progress("") } }
        while true {
            let now = bootTimeNanoseconds()
            guard now < end else { return }
            let left = end - now
            if let what { Terminal.progress("\(what): \((left + 999_999_999) / 1_000_000_000) s") }
            let part = min(left, 1_000_000_000)
            var time = timespec(
                tv_sec: Int(part / 1_000_000_000), tv_nsec: Int(part % 1_000_000_000))
            var signals = signals
            if sigtimedwait(&signals, nil, &time) > 0 { throw LeakCheckError.interrupted }
        }
    }
}

/// A folder for the regions of one run, of nobody else's.
struct PrivateFolder {
    let path: String

    init() throws {
        let places = ["/dev/shm", getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"]
        for place in places {
            var template = Array((place + "/memctl-check-XXXXXX").utf8CString)
            if mkdtemp(&template) != nil {
                path = String(
                    decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
                return
            }
        }
        throw LeakCheckError.noFolder(places[1], errno)
    }

    func remove() {
        for name in Descriptor.names(in: path) { unlink(path + "/" + name) }
        rmdir(path)
    }
}

/// How a program ended, as waitpid(2) tells it.
struct ProgramEnd: Equatable {
    var status: Int32

    private var signal: Int32 { status & 0x7f }
    private var exitStatus: Int32 { status >> 8 & 0xff }

    var isSuccess: Bool { signal == 0 && exitStatus == 0 }

    /// nil after a normal end.
    var remark: String? {
        if signal != 0 {
            return "was ended by signal \(signal) (\(String(cString: strsignal(signal))))"
        }
        return exitStatus == 0 ? nil : "ended with status \(exitStatus)"
    }
}
