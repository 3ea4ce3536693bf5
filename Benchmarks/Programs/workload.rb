# SPDX-License-Identifier: MIT
# A Ruby program as a heap sees it: strings, hashes and arrays that outgrow their slots.
# Prints check=..., the same under every heap. Argument: rounds.
seed = 1
number = lambda do
  seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648
  seed >> 4
end
check = 0
ARGV[0].to_i.times do |round|
  table = Hash.new { |hash, key| hash[key] = [] }
  8000.times do
    n = number.call
    table[n % 1200] << "entry-#{n}-" + 'x' * (n % 90)
  end
  text = +''
  table.keys.sort.each { |key| text << table[key].sort.join('|').gsub(/x{3,}/, '=') << "\n" }
  words = text.split(/[|\n]/).group_by(&:size).transform_values(&:count)
  check = (check * 31 + text.bytesize * 7 + words.sum { |k, v| k * v } + round) % 4_294_967_291
end
puts format('check=%08x', check)
