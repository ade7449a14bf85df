// @azure/web-pubsub-client: any number of clients, each under the name that the test gives it.
import {
  WebPubSubClient,
  WebPubSubJsonProtocol,
  WebPubSubJsonReliableProtocol,
} from "@azure/web-pubsub-client";
import { fromBase64, serve, tell, toBase64 } from "./host.mjs";

const clients = new Map();
const isBytes = (dataType) => dataType === "binary" || dataType === "protobuf";
const outgoing = (data, dataType) => (isBytes(dataType) ? fromBase64(data) : data);

const incoming = ({ message }) => ({
  group: message.group ?? null,
  dataType: message.dataType,
  data: isBytes(message.dataType) ? toBase64(message.data) : message.data,
  fromUserId: message.fromUserId ?? null,
  sequenceId: message.sequenceId ?? null,
});

// The protocol is a public option of the client; this one lets a test say anything at all.
const talkative = (protocol) => {
  let verbatim = null;
  return {
    ...protocol,
    say: (text) => (verbatim = text),
    parseMessages: (input) => protocol.parseMessages(input),
    writeMessage: (message) => {
      const text = verbatim ?? protocol.writeMessage(message);
      verbatim = null;
      return text;
    },
  };
};

const once = { messageRetryOptions: { maxRetries: 0 } };

serve({
  async start({ client: name, url, reliable, verbatim, options }) {
    const plain = reliable ? WebPubSubJsonReliableProtocol() : WebPubSubJsonProtocol();
    const protocol = verbatim ? talkative(plain) : plain;
    const entry = { stopped: false, protocol };
    // A client that is stopped while it reconnects goes on (1.1.0): at the port of a service that has gone, which may
    // be the port of another test by then. It is told no URL any more, and stopped again when it gets through.
    const getClientAccessUrl = async () => {
      if (entry.stopped) throw new Error("stopped");
      return url;
    };
    const client = new WebPubSubClient({ getClientAccessUrl }, { ...once, ...options, protocol });
    entry.client = client;
    clients.set(name, entry);
    client.on("connected", () => entry.stopped && client.stop());
    client.on("connected", (e) => tell(name, "connected", { connectionId: e.connectionId, userId: e.userId ?? null }));
    client.on("disconnected", (e) => tell(name, "disconnected", { message: e.message?.message ?? null }));
    client.on("stopped", () => tell(name, "stopped", {}));
    client.on("group-message", (e) => tell(name, "message", incoming(e)));
    client.on("server-message", (e) => tell(name, "message", incoming(e)));
    client.on("rejoin-group-failed", (e) => tell(name, "rejoin-failed", { group: e.group }));
    await client.start();
  },
  stop({ client: name }) {
    const entry = clients.get(name);
    entry.stopped = true;
    entry.client.stop();
  },
  join: ({ client: name, group, ackId }) => clients.get(name).client.joinGroup(group, { ackId }),
  leave: ({ client: name, group, ackId }) => clients.get(name).client.leaveGroup(group, { ackId }),
  send: ({ client: name, group, data, dataType, ...options }) =>
    clients.get(name).client.sendToGroup(group, outgoing(data, dataType), dataType, options),
  event: ({ client: name, event, data, dataType, ...options }) =>
    clients.get(name).client.sendEvent(event, outgoing(data, dataType), dataType, options),
  // Many requests at once, one ack id after the other; how many were carried out before.
  async burst({ client: name, group, firstAckId, count }) {
    const { client } = clients.get(name);
    const sends = Array.from({ length: count }, (_, n) =>
      client.sendToGroup(group, n, "json", { ackId: firstAckId + n }),
    );
    return (await Promise.all(sends)).filter((ack) => ack.isDuplicated).length;
  },
  say({ client: name, text }) {
    const { client, protocol } = clients.get(name);
    protocol.say(text);
    return client.sendEvent("verbatim", "", "text", { fireAndForget: true });
  },
});
