// The live feed: server-sent events from the service, with a word about how the feed itself is doing.

/**
 * Calls `onBatch` with every batch and `onState` with "live", "waiting" (the service is gone, the browser
 * tries again) or "refused" (it will not be tried again).
 */
export function openFeed(onBatch, onState) {
  const source = new EventSource("trace/feed");
  source.onopen = () => onState("live");
  source.onmessage = (message) => onBatch(JSON.parse(message.data));
  source.onerror = () => onState(source.readyState === EventSource.CLOSED ? "refused" : "waiting");
  // A page that comes back from the browser's history has to start its feed anew.
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}
