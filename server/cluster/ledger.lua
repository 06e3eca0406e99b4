-- Ledger of a cluster (docs/decisions/0014): it decides which node holds which seat. Redis executes one batch at a time,
-- so the ledger never changes within a batch. Its decisions are not returned but go into the inboxes of the nodes.
--
-- KEYS[1]  prefix of all keys
-- ARGV     run_id of Redis; node; number of the batch; "1" if it is the node's first; lease in ms; number of inbox
--          entries that the node has read, and their size in bytes; maximum number and size of unread entries; then the
--          operations, each a word and its arguments
-- Returns  {"ok", number of nodes}, or {"forgotten", 0}: the node is not registered, and no operation was executed
--
-- clock         hash: run, the run_id; wall, system time of the last batch in ms; at, age of the ledger in ms; wards,
--               number of seats entrusted so far
-- nodes         set of the registered nodes. A name is TOKEN.N for the N-th registration of a process
-- node:NODE     hash: done, number of its last batch; beat, age of the ledger at that time; seq and octets, number and
--               size of its inbox entries so far; read and heard, number and size of those that it has read; instances,
--               set if it reads the instances in them
-- in:NODE       stream, its inbox. The id of an entry is its number, so a missing entry is detected
-- of:NODE       set of "ROOM ID", the seats that it holds
-- dying         set of removed nodes that still hold seats
-- seats:ROOM    hash: id to "NODE TICKET KEY NODE TICKET": the holder, and the previous holder until it has handed over
-- instances:ROOM hash: id to "NODE TICKET INSTANCE". Not in seats:ROOM, because older versions of this script run on
--               the same data. They leave entries behind whose NODE and TICKET are not those of the seat; these are void
-- count:ROOM    hash: node to the number of its seats in the room. These nodes receive the events of the room
--
-- A room name is preceded by a slash. "-" stands for a missing key, node or instance, "?" for an unknown instance.

local prefix = KEYS[1]
local run, me, number, first = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
local lease, read, heard = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local most_entries, most_octets = tonumber(ARGV[8]), tonumber(ARGV[9])
local SWEEP = 500 -- maximum number of seats of removed nodes that one batch frees: a few milliseconds of work
local call = redis.call

local function key(kind, name) return prefix .. kind .. ':' .. name end
local CLOCK, NODES, DYING = prefix .. 'clock', prefix .. 'nodes', prefix .. 'dying'

-- Data from before a restart of Redis is not trusted: it may be outdated. ---------------------------------------------

local known = call('HGET', CLOCK, 'run')
if known ~= run then
  if not first then return {'forgotten', 0} end
  for _, node in ipairs(call('SUNION', NODES, DYING)) do
    for _, where in ipairs(call('SMEMBERS', key('of', node))) do
      local room = string.match(where, '^%S+')
      call('DEL', key('seats', room), key('instances', room), key('count', room))
    end
    call('DEL', key('of', node), key('in', node), key('node', node))
  end
  call('DEL', NODES, DYING, CLOCK)
  call('HSET', CLOCK, 'run', run)
end

-- The clock advances by at most a fifth of the lease per batch. While Redis is unreachable for all nodes, the clock
-- stands still and no lease ends. ------------------------------------------------------------------------------------

local time = call('TIME')
local wall = time[1] * 1000 + math.floor(time[2] / 1000)
local was = call('HMGET', CLOCK, 'wall', 'at')
local step = math.floor(lease / 5)
local at = (tonumber(was[2]) or 0) + math.max(0, math.min(was[1] and wall - was[1] or 0, step))
call('HSET', CLOCK, 'wall', string.format('%d', wall), 'at', string.format('%d', at))

-- Nodes -------------------------------------------------------------------------------------------------------------

local alive = {} -- node to the time of its last batch, for all registered nodes

local function remove(node)
  alive[node] = nil
  call('SREM', NODES, node)
  call('SADD', DYING, node)
  call('DEL', key('node', node), key('in', node))
end

local reads_instances = {} -- set of the registered nodes that do

local function emit(node, header, text, instances)
  if not alive[node] then return end
  local entry, size = {'h', header}, 0
  if text then
    entry[3], entry[4] = 't', text
    size = #text
  end
  if instances and reads_instances[node] then
    entry[#entry + 1], entry[#entry + 2] = 'i', instances
    size = size + #instances
  end
  if size > 0 then call('HINCRBY', key('node', node), 'octets', size) end
  local seq = call('HINCRBY', key('node', node), 'seq', 1)
  local added = redis.pcall('XADD', key('in', node), seq .. '-0', unpack(entry))
  if type(added) == 'table' and added.err then remove(node) end -- a foreign entry: the node registers again
end

local mine = key('node', me)
local done = tonumber(call('HGET', mine, 'done'))
if not done then
  if not first then return {'forgotten', 0} end
  call('SADD', NODES, me)
  call('HSET', mine, 'done', 0, 'seq', 0, 'octets', 0, 'instances', 1)
  done = 0
end
call('HSET', mine, 'beat', string.format('%d', at), 'read', read, 'heard', heard)
call('XTRIM', key('in', me), 'MINID', (read + 1) .. '-0')
local nodes = call('SMEMBERS', NODES)
for _, node in ipairs(nodes) do
  local of = call('HMGET', key('node', node), 'beat', 'seq', 'read', 'octets', 'heard', 'instances')
  alive[node], reads_instances[node] = tonumber(of[1]) or 0, of[6] and true
  -- the inbox is too full: the node is so far behind that it has to register again
  local lags = not of[2] or not of[3] or of[2] - of[3] > most_entries or of[4] - of[5] > most_octets
  if lags or at - alive[node] > lease then remove(node) end
end
if not alive[me] then return {'forgotten', 0} end
if number <= done then return {'ok', #nodes} end -- a repeated batch: its answer was lost
call('HSET', mine, 'done', number)
if done == 0 then emit(me, string.format('entered %d', at)) end

local function silent(node) return at - alive[node] > step end
local function token(node) return string.match(node, '^[^.]+') end

-- Seats -------------------------------------------------------------------------------------------------------------

local function seat(room, id)
  local found = call('HGET', key('seats', room), id)
  if not found then return nil end
  local node, ticket, secret, before = string.match(found, '^(%S+) (%S+) (%S+) (.*)$')
  return {node = node, ticket = ticket, secret = secret, before = before}
end

local function put(room, id, s)
  call('HSET', key('seats', room), id, table.concat({s.node, s.ticket, s.secret, s.before}, ' '))
end

local function instance_of(room, id, s)
  local found = call('HGET', key('instances', room), id)
  local node, ticket, instance = string.match(found or '', '^(%S+) (%S+) (%S+)$')
  return node == s.node and ticket == s.ticket and instance or '?'
end

local function put_instance(room, id, s, instance)
  call('HSET', key('instances', room), id, table.concat({s.node, s.ticket, instance}, ' '))
end

local function is_other_process(one, other) return one ~= other and one ~= '?' and other ~= '?' end

local function take_from(room, id, node) -- returns "1" if it was the node's last seat in the room
  call('SREM', key('of', node), room .. ' ' .. id)
  if call('HINCRBY', key('count', room), node, -1) > 0 then return '0' end
  call('HDEL', key('count', room), node)
  return '1'
end

local function values(name, fields) -- in portions: a function has at most some 8,000 arguments
  local found = {}
  for i = 1, #fields, 1000 do
    for j, value in ipairs(call('HMGET', name, unpack(fields, i, math.min(i + 999, #fields)))) do
      found[i + j - 1] = value
    end
  end
  return found
end

local function give_to(room, id, node) -- returns all peers in the room, and their instances, if it is the first seat
  call('SADD', key('of', node), room .. ' ' .. id)
  if call('HINCRBY', key('count', room), node, 1) > 1 then return nil end
  local ids, instances = call('HKEYS', key('seats', room)), {}
  local seats, found = values(key('seats', room), ids), values(key('instances', room), ids)
  for i = 1, #ids do
    local owner, instance = string.match(found[i] or '', '^(%S+ %S+ )(%S+)$')
    instances[i] = owner and string.sub(seats[i], 1, #owner) == owner and instance or '?'
  end
  return table.concat(ids, ' '), table.concat(instances, ' ')
end

local function vacate(room, id, s)
  call('HDEL', key('seats', room), id)
  call('HDEL', key('instances', room), id)
  if call('HLEN', key('seats', room)) == 0 then call('DEL', key('instances', room)) end
  local last = take_from(room, id, s.node)
  emit(s.node, table.concat({'gone', room, id, last, s.ticket}, ' '))
  for _, node in ipairs(call('HKEYS', key('count', room))) do
    if node ~= s.node then emit(node, table.concat({'gone', room, id, '0', '-'}, ' ')) end
  end
end

local function announce(room, id, holder, instance) -- to the other nodes
  for _, node in ipairs(call('HKEYS', key('count', room))) do
    if node ~= holder then emit(node, table.concat({'came', room, id}, ' '), nil, instance) end
  end
end

local function assign(room, id, ticket, secret, instance)
  local s = {node = me, ticket = ticket, secret = secret, before = '-'}
  put(room, id, s)
  put_instance(room, id, s, instance)
  local ids, instances = give_to(room, id, me)
  emit(me, table.concat({'joined', room, id, ticket, '-'}, ' '), ids, instances or instance)
  announce(room, id, me, instance)
end

-- Gives a seat to another node; no peer notices. The previous node hands over its queued messages, unless it is silent.
local function move(room, id, s, node, ticket, instance, ward)
  local known = instance_of(room, id, s)
  if instance == '?' then instance = known end
  put_instance(room, id, {node = node, ticket = ticket}, instance)
  if s.node == node then
    s.ticket = ticket
    put(room, id, s)
    emit(node, table.concat({'joined', room, id, ticket, '-'}, ' '), nil, instance)
    if known ~= instance then announce(room, id, node, instance) end
    return
  end
  local source = '-'
  if alive[s.node] and not silent(s.node) then source = s.node end
  emit(s.node, table.concat({'moved', room, id, take_from(room, id, s.node), s.ticket}, ' '))
  s = {node = node, ticket = ticket, secret = s.secret, before = source == '-' and '-' or source .. ' ' .. s.ticket}
  put(room, id, s)
  local header = {'joined', room, id, ticket, source}
  if ward then header = {'ward', room, id, ticket, source, s.secret, ward} end
  local ids, instances = give_to(room, id, node)
  emit(node, table.concat(header, ' '), ids, instances or instance)
  if known ~= instance then announce(room, id, node, instance) end
end

-- Gives a seat to a client of its owner at this node. Another process of the owner gets it anew, in one step: the
-- messages for its predecessor are discarded, and all nodes report that the peer has left and joined (rule 3).
local function take_over(room, id, s, ticket, instance)
  if not is_other_process(instance_of(room, id, s), instance) then return move(room, id, s, me, ticket, instance) end
  vacate(room, id, s)
  assign(room, id, ticket, s.secret, instance)
end

local function is_sender(s, ticket) -- whether the ticket is that of the holder, or of the holder before a move
  return s and (s.node == me and s.ticket == ticket or s.before == me .. ' ' .. ticket)
end

-- Operations: number of arguments, and function ------------------------------------------------------------------------

local operations = {
  -- a client claims a seat; `insist`: a repeated claim, so the holder had time to answer a ping (rule 3)
  join = {7, function(room, id, ticket, secret, insist, limit, instance)
    local s = seat(room, id)
    if s and s.node == me and s.ticket == ticket then return end
    if s and secret ~= '-' and s.secret == secret then return take_over(room, id, s, ticket, instance) end
    if s and (not alive[s.node] or insist == '1' and silent(s.node)) then
      vacate(room, id, s)
      s = nil
    end
    if s then return emit(s.node, table.concat({'ask', room, id, s.ticket, me, ticket}, ' ')) end
    if tonumber(limit) > 0 and call('HLEN', key('seats', room)) >= tonumber(limit) then
      return emit(me, 'full ' .. ticket)
    end
    assign(room, id, ticket, secret, instance)
  end},
  -- a node that registered again claims the seat of a client; another holder keeps the seat
  resume = {5, function(room, id, ticket, secret, instance)
    local s = seat(room, id)
    if s and token(s.node) == token(me) then return take_over(room, id, s, ticket, instance) end
    if s and not alive[s.node] then
      if secret ~= '-' and s.secret == secret then return take_over(room, id, s, ticket, instance) end
      vacate(room, id, s)
      s = nil
    end
    if s then return emit(me, 'lost ' .. ticket) end
    assign(room, id, ticket, secret, instance)
  end},
  -- all seats are resumed: remove the earlier registrations of this process
  resumed = {0, function()
    for node in pairs(alive) do
      if node ~= me and token(node) == token(me) then remove(node) end
    end
  end},
  leave = {3, function(room, id, ticket)
    local s = seat(room, id)
    if s and s.node == me and s.ticket == ticket then vacate(room, id, s) end
  end},
  send = {5, function(room, from, ticket, to, text)
    if not is_sender(seat(room, from), ticket) then return end
    local s = seat(room, to)
    if not s or not alive[s.node] then return emit(me, table.concat({'nobody', ticket, to}, ' ')) end
    emit(s.node, table.concat({'frame', room, to, me, ticket}, ' '), text)
  end},
  cast = {4, function(room, from, ticket, text)
    if not is_sender(seat(room, from), ticket) then return end
    for _, node in ipairs(call('HKEYS', key('count', room))) do
      if node ~= me then emit(node, table.concat({'cast', room, from}, ' '), text) end
    end
  end},
  -- the previous node of a seat hands over a queued message
  hand = {4, function(room, id, ticket, text)
    local s = seat(room, id)
    if s and s.before == me .. ' ' .. ticket then emit(s.node, table.concat({'mail', room, id}, ' '), text) end
  end},
  -- the previous node has handed over all messages, or the holder waits no longer
  settle = {3, function(room, id, ticket)
    local s = seat(room, id)
    local held = s and s.node == me and s.ticket == ticket
    if not held and instance_of(room, id, {node = me, ticket = ticket}) ~= '?' then -- an older version has moved it
      call('HDEL', key('instances', room), id)
    end
    if not s then return end
    if s.before == me .. ' ' .. ticket then
      emit(s.node, table.concat({'handed', room, id, s.ticket}, ' '))
    elseif not held then
      return
    end
    s.before = '-'
    put(room, id, s)
  end},
  -- a node that stops passes a seat in grace to another one, in turn
  entrust = {4, function(room, id, ticket, grace)
    local s = seat(room, id)
    if not s or s.node ~= me or s.ticket ~= ticket then return end
    local others = {}
    for node in pairs(alive) do
      if node ~= me and not silent(node) then others[#others + 1] = node end
    end
    if #others == 0 then return vacate(room, id, s) end
    table.sort(others)
    local ward = call('HINCRBY', CLOCK, 'wards', 1)
    move(room, id, s, others[ward % #others + 1], 'w' .. ward, '?', grace)
  end},
  tell = {2, emit},
  bye = {0, function() remove(me) end},
}

local i = 10
while i <= #ARGV do
  local operation = operations[ARGV[i]]
  operation[2](unpack(ARGV, i + 1, i + operation[1]))
  i = i + 1 + operation[1]
end

local left = SWEEP
for _, node in ipairs(call('SMEMBERS', DYING)) do
  local held = call('SRANDMEMBER', key('of', node), left)
  for _, where in ipairs(held) do
    local room, id = string.match(where, '^(%S+) (%S+)$')
    local s = seat(room, id)
    if s and s.node == node then vacate(room, id, s) else call('SREM', key('of', node), where) end
  end
  left = left - #held
  if left <= 0 then break end
  call('SREM', DYING, node)
end
return {'ok', #nodes}
