// SPDX-License-Identifier: MIT

/// Recursion, said once: a run of frames that follows itself again and again.
struct Folding {
    /// Frames at `range`, which stand there `repeats` times in all.
    struct Run: Equatable {
        var range: Range<Int>
        var repeats: Int
    }

    /// Frames of a run at most: functions that call each other in a longer circle are not folded.
    private static let periodLimit = 8

    /// Covers all frames, in order.
    ///
    /// A run is folded only if that saves lines.
    static func runs(of frames: [Int32]) -> [Run] {
        var runs: [Run] = []
        var position = 0
        while position < frames.count {
            var best = Run(range: position..<(position + 1), repeats: 1)
            var saved = 1
            for period in 1...periodLimit where position + 2 * period <= frames.count {
                let repeats = Self.repeats(of: period, at: position, in: frames)
                let saving = (repeats - 1) * period
                if saving > saved {
                    best = Run(range: position..<(position + period), repeats: repeats)
                    saved = saving
                }
            }
            runs.append(best)
            position += best.range.count * best.repeats
        }
        return runs
    }

    private static func repeats(of period: Int, at start: Int, in frames: [Int32]) -> Int {
        var position = start + period
        while position < frames.count, frames[position] == frames[position - period] {
            position += 1
        }
        return (position - start) / period
    }
}
