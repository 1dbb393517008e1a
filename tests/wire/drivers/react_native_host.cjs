// What `react-native` gives the SDK on a phone: the platform, the app's state, and two native modules.
"use strict";

const deviceFacts = {
  appName: "Wire", appVersion: "1.2.3", buildNumber: "45", bundleId: "com.example.wire", locale: "en-GB",
  networkType: "wifi", osName: "iOS", osVersion: "18.1", screenHeight: 2556, screenWidth: 1179, screenDensity: 3,
  timezone: "Europe/London", manufacturer: "Apple", model: "iPhone16,1", deviceName: "iPhone", deviceId: "device-1",
  deviceType: "ios",
};

module.exports = {
  Platform: { OS: "ios", select: (choices) => choices.ios ?? choices.default },
  AppState: { currentState: "active", addEventListener: () => ({ remove() {} }) },
  NativeModules: {
    AnalyticsReactNative: { getContextInfo: async () => deviceFacts },
    Sovran: { getConstants: () => ({ ON_STORE_ACTION: "on-store-action" }) },
  },
  NativeEventEmitter: class {
    addListener() {
      return { remove() {} };
    }
  },
};
