// npm @segment/analytics-react-native. The package is unmodified; what a phone's native side would give it
// (device facts, the app's state) comes from react_native_host.cjs, because `react-native` itself holds native
// code and Flow syntax that only its own packager reads.
"use strict";

const Module = require("node:module");
const path = require("node:path");
const drive = require("./driver.cjs");

const resolve = Module._resolveFilename;
Module._resolveFilename = function (request, ...rest) {
  if (request === "react-native") return path.join(__dirname, "react_native_host.cjs");
  return resolve.call(this, request, ...rest);
};

const { createClient, CountFlushPolicy, TimerFlushPolicy } = require("@segment/analytics-react-native");

const { host, writeKey } = drive.options;
const stored = new Map();
const client = createClient({
  writeKey,
  proxy: `${host}/v1`,
  cdnProxy: `${host}/v1`,
  useSegmentEndpoints: true,
  allowInsecureProxy: true,
  flushPolicies: [new CountFlushPolicy(3), new TimerFlushPolicy(500)],
  storePersistor: {
    get: async (key) => (stored.has(key) ? JSON.parse(stored.get(key)) : undefined),
    set: async (key, state) => void stored.set(key, JSON.stringify(state)),
  },
  storePersistorSaveDelay: 0,
  logger: { info() {}, warn: console.warn, error: console.error, enable() {}, disable() {} },
  errorHandler: (error) => console.error("error handler:", error),
});

const enrichment = (call) => (event) => ({
  ...event,
  context: { ...event.context, ...call.context },
  ...(call.timestamp && { timestamp: call.timestamp }),
  ...(call.messageId && { messageId: call.messageId }),
  ...(call.integrations && { integrations: call.integrations }),
});

const calls = {
  identify: (call) => client.identify(call.userId, call.traits, enrichment(call)),
  track: (call) => client.track(call.event, call.properties, enrichment(call)),
  screen: (call) => client.screen(call.name, call.properties, enrichment(call)),
  group: (call) => client.group(call.groupId, call.traits, enrichment(call)),
  alias: (call) => client.alias(call.userId, enrichment(call)),
};

drive({
  async perform(call) {
    await calls[call.type](call);
  },
  close: () => client.cleanup(),
});
