// SPDX-License-Identifier: MIT
import Glibc
import Reports

/// Standard output and standard error.
enum Terminal {
    /// Colour is for people: on a terminal, unless NO_COLOR asks for none.
    static var isColoured: Bool {
        if let wish = getenv("NO_COLOR"), wish.pointee != 0 { return false }
        if let terminal = getenv("TERM"), String(cString: terminal) == "dumb" { return false }
        return isatty(STDOUT_FILENO) == 1
    }

    /// Writes a report to standard output as it is made.
    static func print(_ render: (inout Output) -> Void) {
        var output = Output { bytes in write(bytes, to: STDOUT_FILENO) }
        render(&output)
        output.flush()
    }

    static func print(_ line: String) {
        print { $0.write(line: line) }
    }

    /// A remark beside the output.
    static func note(_ line: String) {
        write(Array("memctl: \(line)\n".utf8), to: STDERR_FILENO)
    }

    /// What goes on, for somebody who waits; nothing when nobody watches.
    static func progress(_ line: String) {
        guard isatty(STDERR_FILENO) == 1 else { return }
        write(Array("\r\u{1b}[K\(line)".utf8), to: STDERR_FILENO)
    }

    /// Ends the program when nobody reads any more (quietly) or the disk is full.
    private static func write(_ bytes: [UInt8], to descriptor: Int32) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count >= 0 {
                rest = rest.dropFirst(count)
            } else if errno == EAGAIN {
                var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                poll(&waiting, 1, -1)
            } else if errno != EINTR {
                let code = errno
                if code != EPIPE, descriptor != STDERR_FILENO {
                    note("can't write the output: \(String(cString: strerror(code)))")
                }
                exit(1)
            }
        }
    }
}
