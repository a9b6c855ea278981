/** A connection to Redis or Valkey: commands out, replies back in their order (RESP2). */

import net from "node:net";

/** @typedef {string | number | Buffer | null | Reply[]} Reply */

/** Redis does not answer, or refuses a command. */
export class StoreError extends Error {}

const INCOMPLETE = Symbol("more bytes must come first");

export class Connection {
  /** Replies that are waited for, the oldest first. */
  #waiting = [];
  #bytes = Buffer.alloc(0);
  #socket;
  closed = false;

  /**
   * @param {string} url `redis://user:password@host:6379/0`
   * @param {number} timeoutMs how long to wait for anything
   */
  static async open(url, timeoutMs = 2000) {
    const { hostname, port, username, password, pathname, protocol } = new URL(url);
    if (protocol !== "redis:") throw new StoreError(`the URL must begin with redis://, got ${protocol}//`);
    const socket = net.connect({ host: hostname.replace(/^\[|\]$/g, "") || "localhost", port: Number(port) || 6379, noDelay: true });
    const connection = new Connection(socket, timeoutMs);
    const hello = [];
    if (password) hello.push(["AUTH", ...(username ? [decodeURIComponent(username)] : []), decodeURIComponent(password)]);
    if (pathname.length > 1) hello.push(["SELECT", pathname.slice(1)]);
    await connection.exchange([...hello, ["PING"]]);
    return connection;
  }

  constructor(socket, timeoutMs) {
    this.#socket = socket;
    socket.setTimeout(timeoutMs, () => {
      if (this.#waiting.length) socket.destroy(new Error(`no answer within ${timeoutMs} ms`));
    });
    socket.on("data", (bytes) => this.#receive(bytes));
    socket.on("error", (error) => this.#fail(error.message));
    socket.on("close", () => this.#fail("the connection was closed"));
  }

  /**
   * One round trip: all commands at once, then a reply to each.
   * @param {string[][]} commands
   * @returns {Promise<Reply[]>}
   */
  exchange(commands) {
    if (this.closed) return Promise.reject(new StoreError("Redis cannot be reached: the connection was closed"));
    const replies = commands.map(() => new Promise((resolve, reject) => this.#waiting.push({ resolve, reject })));
    this.#socket.write(commands.map(packed).join(""));
    return Promise.all(replies);
  }

  close() {
    this.closed = true;
    this.#socket.destroy();
  }

  #receive(bytes) {
    this.#bytes = this.#bytes.length ? Buffer.concat([this.#bytes, bytes]) : bytes;
    const cursor = { bytes: this.#bytes, at: 0 };
    let done = 0;
    try {
      while (this.#waiting.length) {
        const reply = parsed(cursor);
        done = cursor.at;
        const { resolve, reject } = this.#waiting.shift();
        if (reply instanceof StoreError) reject(reply);
        else resolve(reply);
      }
    } catch (error) {
      if (error !== INCOMPLETE) return void this.#socket.destroy(error);
    }
    this.#bytes = this.#bytes.subarray(done);
  }

  #fail(why) {
    this.closed = true;
    for (const { reject } of this.#waiting.splice(0)) reject(new StoreError(`Redis cannot be reached: ${why}`));
  }
}

function packed(command) {
  return `*${command.length}\r\n${command.map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`).join("")}`;
}

/** @returns {Reply | StoreError} */
function parsed(cursor) {
  const head = line(cursor);
  const rest = head.slice(1);
  switch (head[0]) {
    case "+": return rest;
    case "-": return new StoreError(`Redis refused a command: ${rest}`);
    case ":": return Number(rest);
    case "$": return Number(rest) < 0 ? null : bulk(cursor, Number(rest));
    case "*": return Number(rest) < 0 ? null : Array.from({ length: Number(rest) }, () => parsed(cursor));
    default: throw new Error(`what came is no reply of a Redis: ${head.slice(0, 40)}`);
  }
}

function line(cursor) {
  const end = cursor.bytes.indexOf("\r\n", cursor.at);
  if (end < 0) throw INCOMPLETE;
  const text = cursor.bytes.toString("utf8", cursor.at, end);
  cursor.at = end + 2;
  return text;
}

function bulk(cursor, size) {
  const end = cursor.at + size;
  if (cursor.bytes.length < end + 2) throw INCOMPLETE;
  const bytes = cursor.bytes.subarray(cursor.at, end);
  cursor.at = end + 2;
  return bytes;
}
