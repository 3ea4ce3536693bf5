// SPDX-License-Identifier: MIT
// Swift: generics, closures, classes, strings, dictionaries, errors, tasks.
struct Failure: Error { let number: Int }

final class Tree {
    var left: Tree?
    var right: Tree?
    let name: String
    init(_ depth: Int, _ name: String) {
        self.name = name
        if depth > 0 {
            left = Tree(depth - 1, name + "l")
            right = Tree(depth - 1, name + "r")
        }
    }
    func visit<T>(_ body: (Tree) throws -> T) rethrows -> [T] {
        var result = try left?.visit(body) ?? []
        result.append(try body(self))
        result += try right?.visit(body) ?? []
        return result
    }
}

func work(_ i: Int) -> Int {
    let tree = Tree(5, "t\(i)")
    var counts: [String: Int] = [:]
    for name in tree.visit({ $0.name + String($0.name.reversed()) }) {
        counts[name, default: 0] += 1
    }
    let failed = try? tree.visit { node -> Int in
        if node.name.count == 7 && i % 2 == 0 { throw Failure(number: i) }
        return node.name.count
    }
    return counts.keys.sorted().joined().count + (failed?.count ?? 0)
}

func twice(_ i: Int) async -> Int {
    await Task.yield()
    return work(i) + work(i + 1)
}

let seconds = CommandLine.arguments.count > 1 ? Double(CommandLine.arguments[1]) ?? 2 : 2
let clock = ContinuousClock()
let end = clock.now + .milliseconds(Int(seconds * 1000))
var total = 0
var i = 0
while clock.now < end {
    total += work(i)
    total += await withTaskGroup(of: Int.self) { group in
        for k in 0..<4 { group.addTask { await twice(k) } }
        return await group.reduce(0, +)
    }
    i += 1
}
precondition(total > 0)
