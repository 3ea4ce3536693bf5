-- SPDX-License-Identifier: MIT
-- A Lua program as a heap sees it: every table, closure and string is a malloc or realloc.
-- Prints check=..., the same under every heap. Argument: rounds.
local rounds, seed, check = tonumber(arg[1]), 1, 0

local function number()
    seed = (seed * 1103515245 + 12345) % 2147483648
    return seed // 16
end

for round = 1, rounds do
    local by_key, keys = {}, {}
    for _ = 1, 20000 do
        local n = number()
        local key = n % 1500
        if not by_key[key] then
            by_key[key] = {}
            keys[#keys + 1] = key
        end
        local entry = {id = n, name = "entry-" .. n, get = function() return n end}
        table.insert(by_key[key], entry)
    end
    table.sort(keys)
    local lines = {}
    for _, key in ipairs(keys) do
        local names = {}
        for _, entry in ipairs(by_key[key]) do
            names[#names + 1] = entry.name .. ("x"):rep(entry.get() % 40)
        end
        lines[#lines + 1] = table.concat(names, "|")
    end
    local text = table.concat(lines, "\n")
    local _, digits = text:gsub("%d+", "")
    check = (check * 31 + #text * 7 + digits + round) % 4294967291
end
print(string.format("check=%08x", check))
