// An application with ioredis: main.js MODE BINDING RUN QUICK
//
// Writes numbers, one after the other, under keys RUN:1, RUN:2, ... until its standard input ends, and says `wrote N` of each
// that is safe. The first QUICK without a pause. Ends with an error if it cannot write the first.

"use strict";

const fs = require("fs");
const path = require("path");
const Redis = require("ioredis");

const PAUSE = 10;
const [mode, binding, run, quick] = process.argv.slice(2);
const secret = (key) => fs.readFileSync(path.join(binding, key), "utf8");
const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function connect() {
  const tls = { ca: secret("ca.crt") };
  // A server that is gone without a word is noticed by its silence. `failoverDetector` would notice it as well, but what is
  // told while ioredis connects anew ends the client for good.
  const login = { username: secret("username"), password: secret("password"), tls, connectTimeout: 1000, socketTimeout: 3000 };
  const place = { host: secret("host"), port: Number(secret("port")) };
  if (mode === "sentinel") {
    return new Redis({
      ...login,
      sentinels: [{ host: secret("sentinel-host"), port: Number(secret("sentinel-port")) }],
      name: secret("sentinel-master"),
      sentinelUsername: login.username,
      sentinelPassword: login.password,
      enableTLSForSentinelMode: true,
      sentinelTLS: tls,
    });
  }
  if (mode === "cluster") {
    return new Redis.Cluster([place], { redisOptions: login });
  }
  return new Redis({ ...login, ...place });
}

async function put(client, key, value) {
  if (mode === "cluster") {
    await client.set(key, value);
    return;
  }
  // By a replica besides: such a write outlives every election.
  const [[refused], [unanswered, replicas]] = await client.pipeline().set(key, value).wait(1, 1000).exec();
  if (refused || unanswered) {
    throw refused || unanswered;
  }
  if (replicas < 1) {
    throw new Error("no replica has confirmed it");
  }
}

async function main() {
  let ended = false;
  process.stdin.on("end", () => (ended = true)).resume();
  const client = connect();
  await new Promise((resolve, reject) => client.once("ready", resolve).once("error", (error) => reject(error.lastNodeError || error)));
  client.on("error", (error) => console.error(`${error}`));
  for (let number = 1; number === 1 || !ended; ) {
    try {
      await put(client, `${run}:${number}`, number);
    } catch (error) {
      if (number === 1) {
        throw error;
      }
      console.error(`${number}: ${error}`);
      await later(PAUSE);
      continue;
    }
    console.log(`wrote ${number}`);
    if (number >= Number(quick)) {
      await later(PAUSE);
    }
    number += 1;
  }
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
