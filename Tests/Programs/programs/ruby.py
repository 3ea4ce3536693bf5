# SPDX-License-Identifier: MIT
"""ruby: objects, GC and compaction, threads, fibers, fork, Marshal, regular expressions, fiddle."""

NEEDS = ["ruby"]
WEIGHT = 4
KILLS = True  # exit! is _exit

SCRIPT = r"""
require 'digest'; require 'json'; require 'zlib'; require 'stringio'; require 'fiddle'
scale = ARGV[0].to_i
h = {}
(1..40_000 * scale).each { |i| h["key#{(i * 7919) % 1_000_003}"] = { n: i, l: Array.new(i % 7) { |j| "s#{j}" } } }
puts h.size, h.sum { |_, v| v[:l].size }
GC.start
GC.compact if GC.respond_to?(:compact)
puts Digest::MD5.hexdigest(Marshal.dump(h.values.first(5000)))
text = JSON.generate(h.first(20_000).to_h)
puts text.size, JSON.parse(text).size
packed = Zlib::Deflate.deflate(text, 9)
puts Zlib::Inflate.inflate(packed) == text, Digest::SHA256.hexdigest(packed)
puts (1..8).map { |t| Thread.new { a = []; 20_000.times { |i| a << "#{t}-#{i}"; a.shift if a.size > 500 }; a.last } }.map(&:value)
f = (1..2000).map { |i| Fiber.new { |x| y = Fiber.yield(x + i); y.to_s * 3 } }
puts f.each_with_index.sum { |fiber, i| fiber.resume(i) }, f.map { |fiber| fiber.resume(7) }.uniq
pids = (1..6).map { |n| fork { s = (1..20_000).map { |i| 'x' * (i % 50) }; GC.start; exit!(s.size == 20_000 ? n : 99) } }
puts pids.map { |pid| Process.wait(pid); $?.exitstatus }.join(' ')
puts ('ab12 ' * 50_000).gsub(/[a-z]+(\d)/) { "<#{$1}>" }.hash.class
r = (1..3).map { |n| Ractor.new(n) { |k| (1..5_000).map { |i| (i * k).to_s }.join.size } rescue nil }.compact.map(&:take)
puts r.inspect
m = Fiddle::Function.new(Fiddle::Handle::DEFAULT['malloc'], [Fiddle::TYPE_SIZE_T], Fiddle::TYPE_VOIDP)
fr = Fiddle::Function.new(Fiddle::Handle::DEFAULT['free'], [Fiddle::TYPE_VOIDP], Fiddle::TYPE_VOID)
puts (1..2000).sum { |i| a = m.call(i); z = a.to_i % 16; fr.call(a); z }
puts `echo from a shell`, $?.exitstatus
b = (1..300).inject(1) { |x, y| x * y }
puts b.to_s.size, (b ** 20).to_s[-5..], Rational(1, b).denominator == b
ObjectSpace.each_object(Class).count > 100 or abort 'classes'
500.times { |i| String.new(capacity: i * 4096) << 'z' }
$stderr.puts 'done'
"""


def run(stage):
    script = stage.write("s.rb", SCRIPT)
    stage.run(["ruby", "-W0", script, "4" if stage.long else "1"], limit=180)
    stage.run(["ruby", "-W0", "--yjit", script, "1"] if stage.long else ["ruby", "-e", "p 1"],
              limit=180, expect=None)
