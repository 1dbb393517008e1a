// npm analytics-node, the predecessor of @segment/analytics-node that many servers still run.
"use strict";

const drive = require("./driver.cjs");
const Analytics = require("analytics-node");

const { host, writeKey } = drive.options;
const analytics = new Analytics(writeKey, { host, flushAt: 3, flushInterval: 200, retryCount: 12 });
const sent = [];

drive({
  perform({ type, ...call }) {
    const message = { ...call };
    if (call.timestamp) message.timestamp = new Date(call.timestamp);
    sent.push(new Promise((resolve, reject) => {
      analytics[type](message, (error) => (error ? reject(error) : resolve()));
    }));
  },
  close: async () => {
    await analytics.flush();
    await Promise.all(sent);
  },
});
