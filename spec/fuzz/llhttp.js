// Compares what runtime/http.c reads with what llhttp reads, the parser inside Node.
//
//     build/fuzz/http ... | node spec/fuzz/llhttp.js DIRECTORY all|any
//
// Standard input is the frames that http.c writes: an input and the account of it. The
// same account is made of what llhttp reads, one byte at a time, so that it is known where
// a request ends. Where both refuse a request, they agree; where one refuses and the other
// waits for more, nothing is said: more bytes would tell. Every other difference has a
// kind, such as "refuses 400: no Host field | reads on". Those in disagreements.md are
// known. Of each other one the shortest input is put into the directory.
//
// The exit code is 1 if there were others, or, with "all", if a known one was not met.
"use strict";

const fs = require("fs");
const path = require("path");
const crypto = require("crypto");

process.noDeprecation = true;
process.on("SIGINT", () => {}); // who writes the frames ends, and then they do

// -- llhttp -------------------------------------------------------------------------------

function binding() {
  try {
    return process.binding("http_parser");
  } catch (err) {
    console.error(`fuzz: node ${process.version} does not lend its HTTP parser: ${err}`);
    process.exit(2);
  }
}

const { HTTPParser, methods, allMethods } = binding();
const methodNames = allMethods || methods;

// Behind a head with Upgrade Node keeps errors to itself: the byte is not taken.
function refusalOf(outcome) {
  if (outcome instanceof Error) return `${outcome.code} ${outcome.reason}`;
  return outcome === 0 && "HPE_UNTOLD behind an Upgrade";
}

class Reader {
  constructor() {
    const parser = this.parser = new HTTPParser();
    parser[HTTPParser.kOnHeaders] = (fields, target) => this.onFields(fields, target);
    parser[HTTPParser.kOnHeadersComplete] = (...head) => this.onHead(...head);
    parser[HTTPParser.kOnBody] = (bytes, offset, length) =>
      this.onContent(offset === undefined ? bytes : bytes.subarray(offset, offset + length));
    parser[HTTPParser.kOnMessageComplete] = () => this.onEnd();
  }

  // Fields come in portions, of the head or, once that is complete, of the trailers.
  onFields(fields, target) {
    this.fields.push(...fields);
    this.target += target;
  }

  sayFields() {
    for (let i = 0; i < this.fields.length; i += 2)
      this.lines.push(`${this.fields[i]}: ${this.fields[i + 1]}`);
    this.fields = [];
  }

  onHead(major, minor, fields, method, target, status, reason, upgrade, keepAlive) {
    this.onFields(fields || [], target || "");
    this.where = " (after the head)";
    this.fate = upgrade ? "upgrade" : keepAlive ? "open" : "closed";
    this.lines.push(`${methodNames[method]} ${this.target} ${major}.${minor}`);
    this.sayFields();
    return 0;
  }

  onContent(bytes) {
    this.content += bytes.toString("hex");
  }

  sayContent(what) {
    if (this.content) this.lines.push(`=${what} ${this.content}`);
    this.content = "";
  }

  // A close in the trailers is heeded too, and told nobody before more bytes come.
  isClosedByTrailer() {
    return this.fields.some((name, i) => i % 2 === 0 && /^(proxy-)?connection$/i.test(name)
      && /(^|,)[ \t]*close[ \t]*(,|$)/i.test(this.fields[i + 1]));
  }

  onEnd() {
    if (this.fate === "open" && this.isClosedByTrailer()) this.fate = "closed by a trailer";
    this.sayContent("content");
    this.sayFields();
    this.lines.push(`=end ${this.at + 1} ${this.fate}`);
    this.target = this.where = "";
    this.isOver = this.fate !== "open";
  }

  // The account of the bytes, as a list of lines.
  read(bytes) {
    Object.assign(this, { lines: [], fields: [], target: "", content: "", where: "",
      isOver: false });
    this.parser.initialize(HTTPParser.REQUEST, {}, 0, HTTPParser.kLenientNone);
    for (this.at = 0; this.at < bytes.length && !this.isOver; this.at++) {
      const outcome = this.parser.execute(bytes.subarray(this.at, this.at + 1));
      if (this.isOver) break;
      const refusal = refusalOf(outcome);
      if (refusal) {
        this.sayContent("some");
        this.lines.push(`=refused ${refusal}${this.where}`);
        return this.lines;
      }
    }
    if (!this.isOver) {
      this.sayContent("some");
      this.lines.push("=more");
    }
    return this.lines;
  }
}

// -- comparing ----------------------------------------------------------------------------

const isRefusal = (line) => line.startsWith("=refused ");

function doing(line) {
  if (isRefusal(line)) return line.replace(/^=refused (\S+) /, "refuses $1: ");
  return line === "=more" ? "waits" : "reads on";
}

// How much content came before a refusal depends on how soon that was.
function comparable(...accounts) {
  if (accounts.every((lines) => lines[lines.length - 1] === "=more")) return accounts;
  return accounts.map((lines) => lines.filter((line) => !line.startsWith("=some ")));
}

// Whether the request that is read on is refused all the same, before any of its content.
function isRefusedLater(lines, at) {
  const next = lines.slice(at).find((line) => line.startsWith("="));
  return isRefusal(next);
}

// What both have read, and not as the same: the line at a place, in the words of a kind.
// The end of a request is told with what may have decided on what follows.
const fates = { open: "goes on", closed: "closes", upgrade: "changes over",
  "closed by a trailer": "closes by a trailer" };

function reading(lines, at, other, input) {
  const end = /^=end (\d+) (.+)$/;
  const [, place, fate] = lines[at].match(end) || [];
  if (!place) return lines[at].startsWith("=") ? "other content" : "another head";
  if (!other.startsWith(`=end ${place} `)) return "another end";
  const before = lines.slice(0, at);
  const head = before.slice(before.findLastIndex((line) => end.test(line)) + 1);
  const isOfFields = [lines[at], other].every((line) => / (open|closed)$/.test(line));
  return `${fates[fate]} after ${head[0].slice(-3)}${isOfFields ? cause(head, input) : ""}`;
}

// What in a head llhttp may have taken otherwise when it decided on what follows. White
// space at a field's end is only in the input.
function cause(head, input) {
  if (head.some((line) => /^proxy-connection: /i.test(line))) return " with Proxy-Connection";
  return /^connection:.*\t/im.test(input) ? " with HTAB in Connection" : "";
}

// A request line without a version, or with one that says so.
const isOlder = (line) => /^[^= ]+ .* 0\.9$/.test(line);

// "ours | theirs", or null where they agree or nothing can be said.
function kindOf(ours, theirs, input) {
  [ours, theirs] = comparable(ours, theirs);
  const at = ours.findIndex((line, i) => line !== theirs[i]);
  if (at < 0) return null;
  const [us, them] = [doing(ours[at]), doing(theirs[at])];
  if (us === "reads on" && them === "reads on")
    return `${reading(ours, at, theirs[at], input)} | ${reading(theirs, at, ours[at], input)}`;
  if (us !== "reads on" && them !== "reads on") return null;
  if (isRefusedLater(us === "reads on" ? ours : theirs, at)) return null;
  return isOlder(theirs[at]) ? `refuses | reads HTTP/0.9` : `${us} | ${them}`;
}

// -- what is known ------------------------------------------------------------------------

// The rows of the tables. Some sections are of some versions of llhttp only.
function readKnown(file) {
  const major = parseInt(process.versions.llhttp);
  const known = new Map();
  let applies = true;
  for (const line of fs.readFileSync(file, "utf8").split("\n")) {
    const cells = line.split("|").map((cell) => cell.trim());
    if (line.startsWith("## ")) applies = sectionApplies(line, major);
    if (applies && cells.length === 5 && !/^(-*|Moonpool)$/.test(cells[1]))
      known.set(`${cells[1]} | ${cells[2]}`, 0);
  }
  return known;
}

// "... llhttp 8 and later", "... llhttp 6", or of all
function sectionApplies(title, major) {
  const [, version, later] = title.match(/llhttp (\d+)( and later)?$/) || [];
  return !version || major === Number(version) || Boolean(later) && major > Number(version);
}

// -- input --------------------------------------------------------------------------------

class Frames {
  constructor(fd) {
    this.fd = fd;
    this.buffer = Buffer.alloc(0);
  }

  // The next n bytes; null at the end, and what is left there of a frame is dropped.
  take(n) {
    while (this.buffer.length < n) {
      const more = Buffer.alloc(1 << 18);
      const got = fs.readSync(this.fd, more, 0, more.length, null);
      if (got === 0) return null;
      this.buffer = Buffer.concat([this.buffer, more.subarray(0, got)]);
    }
    const bytes = this.buffer.subarray(0, n);
    this.buffer = this.buffer.subarray(n);
    return bytes;
  }

  // The next frame; null after the last one, or where they end before it.
  next() {
    const sizes = this.take(8);
    this.areComplete = sizes !== null && sizes.readUInt32LE(0) === 0;
    if (!sizes || this.areComplete) return null;
    const bytes = this.take(sizes.readUInt32LE(0));
    const account = bytes && this.take(sizes.readUInt32LE(4));
    return account && { bytes, account: account.toString("latin1") };
  }
}

// -- all of it ----------------------------------------------------------------------------

function shown(bytes) {
  return JSON.stringify(bytes.toString("latin1")).slice(0, 300);
}

function report(directory, kind, found) {
  const name = crypto.createHash("sha1").update(kind).digest("hex").slice(0, 8);
  const file = path.join(directory, `disagreement-${name}`);
  fs.writeFileSync(file, found.bytes);
  console.log(`a new disagreement: ${kind}`);
  console.log(`  ${shown(found.bytes)}`);
  for (const line of found.ours) console.log(`  moonpool  ${line}`);
  for (const line of found.theirs) console.log(`  llhttp    ${line}`);
  console.log(`  again: make fuzz INPUT=${file}`);
}

function main(directory, all) {
  const known = readKnown(path.join(__dirname, "disagreements.md"));
  const found = new Map();
  const reader = new Reader();
  const frames = new Frames(0);
  let total = 0, differing = 0;
  for (let frame; (frame = frames.next()); total++) {
    const theirs = reader.read(frame.bytes);
    if (theirs.join("\n") + "\n" === frame.account) continue;
    const ours = frame.account.slice(0, -1).split("\n");
    const kind = kindOf(ours, theirs, frame.bytes.toString("latin1"));
    if (kind) differing++;
    if (known.has(kind)) known.set(kind, known.get(kind) + 1);
    else if (kind && !(found.get(kind)?.bytes.length <= frame.bytes.length))
      found.set(kind, { bytes: Buffer.from(frame.bytes), ours, theirs });
  }
  const unmet = all && frames.areComplete ? [...known.keys()].filter((kind) => !known.get(kind)) : [];
  for (const [kind, one] of found) report(directory, kind, one);
  for (const kind of unmet) console.log(`in disagreements.md but not met: ${kind}`);
  console.log(`${total} inputs compared with llhttp ${process.versions.llhttp} of node`
    + ` ${process.version}: ${differing} known disagreements, ${found.size} new kinds`);
  return found.size || unmet.length ? 1 : 0;
}

process.exitCode = main(process.argv[2], process.argv[3] === "all");
