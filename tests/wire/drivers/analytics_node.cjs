// npm @segment/analytics-node.
"use strict";

const drive = require("./driver.cjs");
const { Analytics } = require("@segment/analytics-node");

const { host, writeKey } = drive.options;
const analytics = new Analytics({ writeKey, host, path: "/v1/batch", flushAt: 3, flushInterval: 200, maxRetries: 30 });
analytics.on("error", (error) => console.error("error event:", error));

drive({
  perform({ type, ...call }) {
    analytics[type]({ ...call, timestamp: call.timestamp && new Date(call.timestamp) });
  },
  close: () => analytics.closeAndFlush({ timeout: 90_000 }),
});
