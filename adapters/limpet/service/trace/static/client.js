// A small reliable Web PubSub client for the try-it panel: requests, sequence acks, recovery.

const SUBPROTOCOL = "json.reliable.webpubsub.azure.v1";
const RECOVERY_WINDOW = 30_000;
const RECOVERY_INTERVAL = 1_000;
const SEQUENCE_ACK_INTERVAL = 1_000;
// A close code after which the service keeps the connection for recovery.
const CUT = 4000;

/**
 * One logical connection over any number of WebSockets.
 *
 * `handlers` has onState(state, detail), with the states "connected", "recovering", "recovered" and "closed",
 * and onMessage(message). The detail is the user id, or null, of "connected", the close code of "recovering" and the
 * reason of "closed".
 */
export class Client {
  constructor(url, handlers) {
    this.url = new URL(url);
    this.handlers = handlers;
    this.connectionId = null;
    this.reconnectionToken = null;
    this.lostAt = null;
    this.stopped = false;
    this.farewell = "";
    this.lastAckId = 0;
    this.answers = new Map();
    this.sequenceId = 0;
    this.ackTimer = null;
    this.open(this.url);
  }

  /** Sends a request; resolves with its ack, rejects with the reason why there is none. */
  request(message) {
    if (this.socket.readyState !== WebSocket.OPEN) return Promise.reject(new Error("There is no connection."));
    const ackId = ++this.lastAckId;
    this.socket.send(JSON.stringify({ ...message, ackId }));
    return new Promise((resolve, reject) => this.answers.set(ackId, { resolve, reject }));
  }

  /** Loses the WebSocket, as a broken network would. */
  cut() {
    this.socket.close(CUT, "cut");
  }

  /** Ends the connection for good. */
  stop() {
    this.stopped = true;
    this.acknowledge();
    this.socket.close(1000);
  }

  open(url) {
    const socket = (this.socket = new WebSocket(url, SUBPROTOCOL));
    socket.onmessage = (event) => this.receive(JSON.parse(event.data));
    socket.onclose = (event) => this.closed(event);
  }

  receive(message) {
    if (message.type === "system" && message.event === "connected") {
      const recovered = this.connectionId !== null;
      this.connectionId = message.connectionId;
      this.reconnectionToken = message.reconnectionToken;
      this.lostAt = null;
      this.handlers.onState(recovered ? "recovered" : "connected", message.userId ?? null);
    } else if (message.type === "system" && message.event === "disconnected") {
      // The close frame behind it may be without a reason.
      this.farewell = message.message ?? "";
    } else if (message.type === "ack") {
      const answer = this.answers.get(message.ackId);
      this.answers.delete(message.ackId);
      if (message.success || message.error?.name === "Duplicate") answer?.resolve(message);
      else answer?.reject(new Error(message.error?.message ?? "The request was refused."));
    } else if (message.type === "message") {
      // A message that was sent again after a recovery is acknowledged again, but shown once.
      const fresh = message.sequenceId > this.sequenceId;
      this.sequenceId = Math.max(this.sequenceId, message.sequenceId);
      this.ackTimer ??= setTimeout(() => this.acknowledge(), SEQUENCE_ACK_INTERVAL);
      if (fresh) this.handlers.onMessage(message);
    }
  }

  acknowledge() {
    clearTimeout(this.ackTimer);
    this.ackTimer = null;
    if (this.sequenceId > 0 && this.socket.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify({ type: "sequenceAck", sequenceId: this.sequenceId }));
    }
  }

  closed(event) {
    for (const { reject } of this.answers.values()) reject(new Error("The connection was lost before the answer."));
    this.answers.clear();
    this.lostAt ??= Date.now();
    const over = this.stopped || this.connectionId === null || event.code === 1008 || event.code === 1000;
    if (over || Date.now() - this.lostAt > RECOVERY_WINDOW) {
      const reason = event.reason || this.farewell || "The service could not be reached.";
      this.handlers.onState("closed", this.stopped ? "" : reason);
      return;
    }
    this.handlers.onState("recovering", `${event.code}`);
    setTimeout(() => this.recover(), RECOVERY_INTERVAL);
  }

  recover() {
    if (this.stopped) {
      this.handlers.onState("closed", "");
      return;
    }
    const url = new URL(this.url.origin + this.url.pathname);
    url.searchParams.set("awps_connection_id", this.connectionId);
    url.searchParams.set("awps_reconnection_token", this.reconnectionToken);
    this.open(url);
  }
}
