local http_date = require "moonpool.http_date"

local BIRTH = 784111777 -- of the RFC's example

describe("a date of HTTP", function()
  it("is sent in one form, and read in three (RFC 9110 5.6.7)", function()
    assert.equal("Sun, 06 Nov 1994 08:49:37 GMT", http_date.format(BIRTH))
    for _, text in ipairs {
      "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
      "Sun Nov  6 08:49:37 1994",
    } do
      assert.equal(BIRTH, http_date.parse(text), text)
    end
  end)

  it("is what the C library makes of it, all over the calendar", function()
    for time = -5e9 // 1 | 0, 5e9 // 1 | 0, 86400 * 97 + 12345 do
      local text = http_date.format(time)
      assert.equal(os.date("!%a, %d %b %Y %H:%M:%S GMT", time), text)
      assert.equal(time, http_date.parse(text), text)
    end
  end)

  it("of two digits for its year is at most 50 years ahead", function()
    local now = http_date.parse "Sat, 21 Nov 2026 00:00:00 GMT"
    local function year(digits)
      local time = http_date.parse(("Sunday, 06-Nov-%s 08:49:37 GMT"):format(digits), now)
      return os.date("!*t", time).year
    end
    for digits, expected in pairs { ["26"] = 2026, ["76"] = 2076, ["77"] = 1977,
      ["99"] = 1999, ["00"] = 2000 } do
      assert.equal(expected, year(digits))
    end
  end)

  it("may have a leap day and a leap second", function()
    assert.equal(951782400, http_date.parse "Tue, 29 Feb 2000 00:00:00 GMT")
    assert.equal(http_date.parse "Sun, 01 Jan 2017 00:00:00 GMT",
      http_date.parse "Sat, 31 Dec 2016 23:59:60 GMT")
  end)

  it("is nothing else", function()
    for _, text in ipairs {
      "", "0", "now", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 UTC",
      "Sun, 06 Nov 1994 08:49:37 GMT ", " Sun, 06 Nov 1994 08:49:37 GMT",
      "sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 nov 1994 08:49:37 GMT",
      "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 94 08:49:37 GMT",
      "Xxx, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Xxx 1994 08:49:37 GMT",
      "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 31 Nov 1994 08:49:37 GMT",
      "Mon, 29 Feb 1900 00:00:00 GMT", "Sun, 06 Nov 1994 24:00:00 GMT",
      "Sun, 06 Nov 1994 08:60:00 GMT", "Sun, 06 Nov 1994 08:00:61 GMT",
      "Sun, 06-Nov-94 08:49:37 GMT", "Sunday, 06-Nov-1994 08:49:37 GMT",
      "Sunday, 06 Nov 1994 08:49:37 GMT", "Someday, 06-Nov-94 08:49:37 GMT",
      "Sun Nov 06 08:49:37 1994 GMT", "Sun Nov 6 08:49:37 1994",
      "Sun Nov    08:49:37 1994", "Sunday Nov  6 08:49:37 1994", "1994-11-06T08:49:37Z",
    } do
      assert.is_nil(http_date.parse(text), text)
    end
  end)
end)
