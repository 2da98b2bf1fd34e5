--- Dates of HTTP (RFC 9110 5.6.7).
--
--     http_date.format(784111777)       "Sun, 06 Nov 1994 08:49:37 GMT"
--     http_date.parse "Sunday, 06-Nov-94 08:49:37 GMT"     784111777
--
-- Times are whole seconds since 1970 in UTC, as os.time() has them.
--
-- @module moonpool.http_date

local DAYS, MONTHS = {}, {}
for name in ("Sunday Monday Tuesday Wednesday Thursday Friday Saturday"):gmatch "%a+" do
  DAYS[name], DAYS[name:sub(1, 3)] = true, true
end
for name in ("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"):gmatch "%a+" do
  MONTHS[#MONTHS + 1], MONTHS[name] = name, #MONTHS + 1
end

--- The form that is sent (IMF-fixdate). The names are those of the locale "C", which is
-- that of every script that does not set another.
local function format(time)
  return os.date("!%a, %d %b %Y %H:%M:%S GMT", time)
end

-- Days from 1970-01-01 in the calendar that HTTP uses; years begin in March here, so that
-- the leap day is the last of its year.
local function days_until(year, month, day)
  if month < 3 then year, month = year - 1, month + 12 end
  return 365 * year + year // 4 - year // 100 + year // 400
    + (153 * (month - 3) + 2) // 5 + day - 719469
end

local function days_of(year, month)
  if month == 12 then return 31 end
  return days_until(year, month + 1, 1) - days_until(year, month, 1)
end

-- A second of 60 is a leap second.
local function time_of(year, month, day, hour, minute, second)
  year, day = tonumber(year), tonumber(day)
  hour, minute, second = tonumber(hour), tonumber(minute), tonumber(second)
  if not month or day < 1 or day > days_of(year, month) then return nil end
  if hour > 23 or minute > 59 or second > 60 then return nil end
  return ((days_until(year, month, day) * 24 + hour) * 60 + minute) * 60 + second
end

-- Two digits: a year that would be more than 50 years ahead has been.
local function full_year(digits, now)
  local this = os.date("!*t", now).year
  local year = this - this % 100 + tonumber(digits)
  return year > this + 50 and year - 100 or year
end

--- Reads a date in any of the three forms.
-- @param now (optional) the time by which a year of two digits is understood
-- @return the time, or nil if it is none
local function parse(text, now)
  local name, day, month, year, hour, minute, second =
    text:match "^(%a%a%a), (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$"
  if not name then -- RFC 850
    name, day, month, year, hour, minute, second =
      text:match "^(%a+day), (%d%d)%-(%a%a%a)%-(%d%d) (%d%d):(%d%d):(%d%d) GMT$"
    year = name and full_year(year, now)
  end
  if not name then -- asctime
    name, month, day, hour, minute, second, year =
      text:match "^(%a%a%a) (%a%a%a) ([ %d]%d) (%d%d):(%d%d):(%d%d) (%d%d%d%d)$"
  end
  if not DAYS[name or ""] then return nil end
  return time_of(year, MONTHS[month], day, hour, minute, second)
end

return { format = format, parse = parse }
