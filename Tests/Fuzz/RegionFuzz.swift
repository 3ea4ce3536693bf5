// SPDX-License-Identifier: MIT
// Damaged region files, read the way memctl reads them: RegionFuzz KIND COUNT SEED FILE.
//
// FILE is written anew, and read, COUNT times; a crash leaves the one that caused it there. KIND is
// mutated, truncated, random or sparse; or keep: COUNT mutated files are left as FILE.1, FILE.2 ...
import Glibc
import HeapImage

@main
struct RegionFuzz {
    static func main() {
        let arguments = CommandLine.arguments
        guard arguments.count == 5, let count = Int(arguments[2]), let seed = UInt64(arguments[3])
        else {
            print("usage: RegionFuzz KIND COUNT SEED FILE")
            exit(64)
        }
        var random = SplitMix(state: seed)
        var read = 0
        for index in 1...max(1, count) {
            let keeps = arguments[1] == "keep"
            let path = keeps ? "\(arguments[4]).\(index)" : arguments[4]
            write(bytes(arguments[1], &random), to: path)
            if arguments[1] == "sparse" {
                // A few pages that pretend to be anything up to the largest file there is.
                truncate(path, off_t(1) << Int.random(in: 20..<43, using: &random))
            }
            if !keeps, let file = try? RegionFile(path: path), (try? readWhole(file)) != nil {
                read += 1
            }
        }
        print("\(read) of \(count) were read, the others refused")
    }

    private static func bytes(_ kind: String, _ random: inout SplitMix) -> [UInt8] {
        let valid = SampleRegion().bytes
        switch kind {
        case "truncated":
            return Array(valid.prefix(Int.random(in: 0...valid.count, using: &random)))
        case "random":
            // The magic number and version stay, or nothing behind them would be looked at.
            var bytes = (0..<valid.count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            bytes.replaceSubrange(64..<80, with: valid[64..<80])
            return bytes
        default: return mutated(valid, &random)
        }
    }

    private static func write(_ bytes: [UInt8], to path: String) {
        let file = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0o600)
        guard file >= 0, Glibc.write(file, bytes, bytes.count) == bytes.count else {
            perror(path)
            exit(1)
        }
        close(file)
    }
}
