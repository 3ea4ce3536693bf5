// SPDX-License-Identifier: MIT
import HeapImage
import Symbols

/// What some addresses of a process are, and who points at them.
package struct WhatIsReport: Equatable, Sendable {
    /// Of an address that was asked for.
    package struct Answer: Equatable, Sendable {
        package var address: UInt64
        package var fact: AddressFact
        /// Of a traced slot: since when it lives, and where it was asked for, innermost first.
        package var ageNanoseconds: UInt64?
        package var places: [Place]
        /// nil: nobody asked.
        package var references: [Reference]?
        /// There may be more than are kept.
        package var referenceCount: UInt64

        package init(
            address: UInt64, fact: AddressFact, ageNanoseconds: UInt64? = nil,
            places: [Place] = [], references: [Reference]? = nil, referenceCount: UInt64 = 0
        ) {
            self.address = address
            self.fact = fact
            self.ageNanoseconds = ageNanoseconds
            self.places = places
            self.references = references
            self.referenceCount = referenceCount
        }
    }

    /// A word that points there.
    package struct Reference: Equatable, Sendable {
        /// Live memory before what may be stale.
        package enum Holder: Int, Sendable, Comparable {
            case register, stack, data, slot, mapping, freeSlot

            package static func < (left: Holder, right: Holder) -> Bool {
                left.rawValue < right.rawValue
            }

            package var name: String {
                switch self {
                case .register: "register"
                case .stack: "stack"
                case .data: "data"
                case .slot: "slot"
                case .mapping: "mapping"
                case .freeSlot: "free_slot"
                }
            }
        }

        package var holder: Holder
        /// 0 for a register.
        package var address: UInt64
        package var value: UInt64
        /// What the holder is.
        package var what: String

        package init(holder: Holder, address: UInt64, value: UInt64, what: String) {
            self.holder = holder
            self.address = address
            self.value = value
            self.what = what
        }
    }

    package var process: ReportedProcess
    package var answers: [Answer]
    /// Threads whose registers could not be read.
    package var threadsMissing: Int

    package init(process: ReportedProcess, answers: [Answer], threadsMissing: Int = 0) {
        self.process = process
        self.answers = answers
        self.threadsMissing = threadsMissing
    }
}

extension AddressFact {
    /// One line, for who is only mentioned.
    package var summary: String {
        switch self {
        case .slot(let slot):
            "\(slot.state.words) slot \(hex(slot.start)) + \(slot.offset), \(slot.size) bytes"
        case .rest(let span): "behind the last slot of span \(hex(span.base))"
        case .free(let arena, _): "free slices of arena \(hex(arena))"
        case .structure(let what): what
        case .mapping(let mapping, let thread):
            if let thread {
                "stack of thread \(thread.tid) (\(Layout.safe(thread.name)))"
            } else if mapping.name.isEmpty {
                "a mapping without a name at \(hex(mapping.range.lowerBound))"
            } else {
                Layout.safe(Place.lastPart(mapping.name))
            }
        case .unmapped: "not mapped"
        }
    }

    /// What other words have to point at to refer to the same.
    package func target(of address: UInt64) -> Range<UInt64> {
        switch self {
        case .slot(let slot): slot.range
        default: address..<address.plus(1)
        }
    }
}

extension SlotFact.State {
    var words: String {
        switch self {
        case .live: "live"
        case .free, .remote, .purged: "free"
        case .fresh: "unused"
        case .waiting: "waiting"
        }
    }
}
