// SPDX-License-Identifier: MIT
import HeapImage
import Reports

/// A HeapPicture as one SVG file that needs nothing else.
///
/// A cell is a square; its colour is the class, its strength how much of it is live. Free memory that
/// is still populated stands out, space without memory is nearly white.
package struct MapPicture {
    private let picture: HeapPicture

    package init(_ picture: HeapPicture) {
        self.picture = picture
    }

    // In pixels.
    private static let cell = 7
    private static let perRow = 128
    private static let margin = 20
    private static let heading = 26
    private static let top = 128
    private static var width: Int { perRow * cell + 2 * margin }

    package func write(to output: inout Output) {
        let heights = picture.blocks.map { Self.heading + Self.rows(of: $0) * Self.cell + 10 }
        let height = Self.top + heights.reduce(0, +) + Self.margin
        output.write(
            line: """
                <svg xmlns="http://www.w3.org/2000/svg" width="\(Self.width)" height="\(height)" \
                viewBox="0 0 \(Self.width) \(height)" font-family="sans-serif" font-size="12">
                <rect width="100%" height="100%" fill="#ffffff"/>
                """)
        writeTitle(to: &output)
        writeLegend(to: &output)
        var y = Self.top
        for (block, height) in zip(picture.blocks, heights) {
            write(block, at: y, to: &output)
            y += height
        }
        output.write(line: "</svg>")
    }

    private static func rows(of block: HeapPicture.Block) -> Int {
        (block.runs.reduce(0) { $0 + $1.cells } + perRow - 1) / perRow
    }

    private func writeTitle(to output: inout Output) {
        let process = Self.escaped(picture.process.title)
        output.write(
            line: """
                <text x="\(Self.margin)" y="28" font-size="18">heap of process \(process)</text>
                <text x="\(Self.margin)" y="48" fill="#555555">\
                \(Layout.size(picture.reserved)) reserved, \(Layout.size(picture.populated)) \
                populated, \(Layout.size(picture.used)) used; a cell is \
                \(Layout.size(picture.cellBytes))</text>
                """)
    }

    // MARK: Legend

    private static let bands: [(title: String, size: UInt64)] = [
        ("16 B", 16), ("64 B", 64), ("256 B", 256), ("1 KiB", 1024), ("4 KiB", 4096),
        ("16 KiB", 16384), ("64 KiB", 65536),
    ]

    private func writeLegend(to output: inout Output) {
        var x = Self.margin
        func swatch(_ colour: String, _ title: String, _ width: Int) {
            output.write(
                line: """
                    <rect x="\(x)" y="62" width="14" height="14" fill="\(colour)" \
                    stroke="#cccccc" stroke-width="0.5"/>\
                    <text x="\(x + 19)" y="74">\(title)</text>
                    """)
            x += width
        }
        for band in Self.bands {
            swatch(Self.colour(.slots(band.size), fill: 10), band.title, 72)
        }
        swatch(Self.colour(.large, fill: 10), "large", 68)
        swatch(Self.colour(.huge, fill: 10), "huge", 64)
        swatch(Self.colour(.free, fill: 0), "free, populated", 122)
        swatch(Self.colour(.empty, fill: 0), "no memory", 90)
        x = Self.margin
        for fill in 0...10 {
            output.write(
                line: """
                    <rect x="\(x)" y="88" width="14" height="14" \
                    fill="\(Self.colour(.slots(256), fill: fill))" stroke="#cccccc" \
                    stroke-width="0.5"/>
                    """)
            x += 14
        }
        output.write(
            line: """
                <text x="\(x + 8)" y="100">share of a span that is live: none to all \
                (any class)</text>
                """)
    }

    // MARK: Cells

    private func write(_ block: HeapPicture.Block, at top: Int, to output: inout Output) {
        output.write(
            line: """
                <text x="\(Self.margin)" y="\(top + 16)">\(block.title) \(hex(block.start)): \
                \(Layout.size(block.size)), \(Layout.size(block.populated)) populated</text>
                """)
        var position = 0
        for run in block.runs {
            var left = run.cells
            let colour = Self.colour(run.content, fill: run.fill)
            let title = Self.title(of: run)
            while left > 0 {
                let column = position % Self.perRow
                let count = min(left, Self.perRow - column)
                let x = Self.margin + column * Self.cell
                let y = top + Self.heading + position / Self.perRow * Self.cell
                output.write(
                    line: """
                        <rect x="\(x)" y="\(y)" width="\(count * Self.cell)" \
                        height="\(Self.cell)" fill="\(colour)" stroke="#ffffff" \
                        stroke-width="0.6"><title>\(title)</title></rect>
                        """)
                position += count
                left -= count
            }
        }
    }

    private static func title(of run: HeapPicture.Run) -> String {
        switch run.content {
        case .slots(let size): "slots of \(size) bytes, \(run.fill * 10) % live"
        case .large: "large slot"
        case .huge: run.fill > 0 ? "huge slot, populated" : "huge slot, not populated"
        case .free: "free, populated"
        case .empty: "no memory"
        }
    }

    /// The hue runs from blue to orange with the logarithm of the slot size.
    static func colour(_ content: HeapPicture.Content, fill: Int) -> String {
        let strength = max(0, min(10, fill))
        switch content {
        case .slots(let size):
            let doublings = UInt64.bitWidth - max(16, size).leadingZeroBitCount - 5
            let hue = max(0, 230 - doublings * 16)
            return hsl(hue, strength == 0 ? 25 : 70, 92 - strength * 5)
        case .large: return hsl(300, strength == 0 ? 25 : 55, 90 - strength * 4)
        case .huge: return hsl(265, strength == 0 ? 20 : 45, strength == 0 ? 94 : 55)
        case .free: return "#d64545"
        case .empty: return "#f3f3f1"
        }
    }

    /// As "#rrggbb", which every viewer knows.
    private static func hsl(_ hue: Int, _ saturation: Int, _ lightness: Int) -> String {
        let l = Double(lightness) / 100
        let chroma = (1 - abs(2 * l - 1)) * Double(saturation) / 100
        let part = Double(hue) / 60
        let second = chroma * (1 - abs(part.truncatingRemainder(dividingBy: 2) - 1))
        let (r, g, b): (Double, Double, Double) =
            switch hue / 60 {
            case 0: (chroma, second, 0)
            case 1: (second, chroma, 0)
            case 2: (0, chroma, second)
            case 3: (0, second, chroma)
            case 4: (second, 0, chroma)
            default: (chroma, 0, second)
            }
        let base = l - chroma / 2
        return "#"
            + [r, g, b].map { value in
                let number = UInt8(max(0, min(255, ((value + base) * 255).rounded())))
                return (number < 16 ? "0" : "") + String(number, radix: 16)
            }.joined()
    }

    private static func escaped(_ text: String) -> String {
        text.map { character in
            switch character {
            case "<": "&lt;"
            case ">": "&gt;"
            case "&": "&amp;"
            case "\"": "&quot;"
            default: String(character)
            }
        }.joined()
    }
}
