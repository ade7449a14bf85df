// The live feed: server-sent events from the service, and the status of the feed.

/**
 * Calls `onBatch` with every batch and `onState` with "live", "waiting" (the service is gone, the browser
 * tries again) or "refused" (it will not be tried again).
 */
export function openFeed(onBatch, onState) {
  const source = new EventSource("trace/feed");
  source.onopen = () => onState("live");
  source.onmessage = (message) => onBatch(JSON.parse(message.data));
  source.onerror = () => onState(source.readyState === EventSource.CLOSED ? "refused" : "waiting");
  // A page restored from the browser's history must start its feed again.
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}
