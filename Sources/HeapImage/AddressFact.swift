// SPDX-License-Identifier: MIT

/// What an address of a process is.
package enum AddressFact: Equatable, Sendable {
    case slot(SlotFact)
    /// In a span, behind its last slot.
    case rest(SpanFact)
    /// In an arena, in slices that are in no span.
    case free(arena: UInt64, size: UInt64)
    /// The heap's own: what, and of what.
    case structure(String)
    /// Not the heap's; the thread whose stack it is, if one is there.
    case mapping(Mapping, stackOf: ProcessThreads.Thread?)
    /// Nothing there; what is below and above.
    case unmapped(below: Mapping?, above: Mapping?)
}

/// A slot, and what of it is known.
package struct SlotFact: Equatable, Sendable {
    package enum State: String, Sendable {
        case live
        /// On its span's list: the owner hands it out again.
        case free
        /// Freed by another thread than the owner, who has not looked yet; or that thread keeps it.
        case remote
        /// Free, and its pages given back to the kernel.
        case purged
        /// Never handed out yet.
        case fresh
        /// A large one that is free, kept by a thread for its next request.
        case waiting
    }

    package var start: UInt64
    /// Of the address asked for.
    package var offset: UInt64
    package var size: UInt64
    package var state: State
    package var span: SpanFact
    /// nil: not traced.
    package var tag: TagFact?

    package init(
        start: UInt64, offset: UInt64, size: UInt64, state: State, span: SpanFact,
        tag: TagFact? = nil
    ) {
        self.start = start
        self.offset = offset
        self.size = size
        self.state = state
        self.span = span
        self.tag = tag
    }

    package var range: Range<UInt64> { start..<start.plus(size) }
}

/// What tracing keeps of a live slot.
package struct TagFact: Equatable, Sendable {
    package var stack: UInt32
    package var requested: UInt64
    /// Quarters of a second, see TaggedSlot.
    package var birth: UInt64

    package init(stack: UInt32, requested: UInt64, birth: UInt64) {
        self.stack = stack
        self.requested = requested
        self.birth = birth
    }
}

package struct SpanFact: Equatable, Sendable {
    package enum Kind: String, Sendable { case slots, large, huge }

    package var kind: Kind
    package var base: UInt64
    package var size: UInt64
    package var slotSize: UInt64
    package var slotCount: UInt64
    package var live: UInt64
    /// Base of the arena; nil for huge ones.
    package var arena: UInt64?
    /// Of slots: who owns the span; of large and huge ones: who asked for them.
    package var thread: HeapThreadFact?

    package init(
        kind: Kind, base: UInt64, size: UInt64, slotSize: UInt64, slotCount: UInt64, live: UInt64,
        arena: UInt64?, thread: HeapThreadFact?
    ) {
        self.kind = kind
        self.base = base
        self.size = size
        self.slotSize = slotSize
        self.slotCount = slotCount
        self.live = live
        self.arena = arena
        self.thread = thread
    }
}

/// A thread as the heap numbers them.
package struct HeapThreadFact: Equatable, Sendable {
    package var number: UInt32
    /// nil: it has ended.
    package var tid: UInt32?
    /// As the kernel keeps it; "" when not known.
    package var name: String

    package init(number: UInt32, tid: UInt32?, name: String = "") {
        self.number = number
        self.tid = tid
        self.name = name
    }
}
