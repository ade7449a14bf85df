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
const talkative = (name, protocol) => {
  let verbatim = null;
  return {
    ...protocol,
    say: (text) => (verbatim = text),
    parseMessages(input) {
      const parsed = protocol.parseMessages(input);
      // The client itself does nothing with these (1.1.0).
      [parsed].flat().forEach((message) => message?.kind.startsWith("groupState") && tell(name, "states", message));
      return parsed;
    },
    writeMessage: (message) => {
      const text = verbatim ?? protocol.writeMessage(message);
      verbatim = null;
      return text;
    },
  };
};

// What a stream has to say, fragment by fragment, and how it ends. Errors of streams are plain objects.
const listen = (name) => async (stream) => {
  const about = { group: stream.groupName, streamId: stream.streamId };
  let error = null;
  try {
    for await (const { stream: place, dataType, data, fromUserId } of stream) {
      const shown = isBytes(dataType) ? toBase64(data) : data;
      tell(name, "fragment", { ...about, number: place.streamSequenceId, dataType, data: shown, fromUserId });
    }
  } catch (e) {
    error = { name: e.name, message: e.message ?? null, code: e.userErrorCode ?? null };
  }
  tell(name, "stream-end", { ...about, error });
};

const once = { messageRetryOptions: { maxRetries: 0 } };

serve({
  async start({ client: name, url, reliable, verbatim, options }) {
    const plain = reliable ? WebPubSubJsonReliableProtocol() : WebPubSubJsonProtocol();
    const protocol = verbatim ? talkative(name, plain) : plain;
    const entry = { stopped: false, protocol, streams: new Map(), aborts: new Map() };
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
    client.onGroupStream(listen(name));
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
  async openStream({ client: name, group, ...options }) {
    const { client, streams } = clients.get(name);
    const stream = await client.openGroupStream(group, options);
    stream.onError((e) => tell(name, "stream-error", { streamId: stream.streamId, name: e.name, message: e.message }));
    streams.set(stream.streamId, stream);
    return stream.streamId;
  },
  write: ({ client: name, streamId, data, dataType }) =>
    clients.get(name).streams.get(streamId).write(outgoing(data, dataType), dataType),
  endStream: ({ client: name, streamId }) => clients.get(name).streams.get(streamId).end(),
  abortStream: ({ client: name, streamId, error }) => clients.get(name).streams.get(streamId).abort(error),
  // Each invocation may be cancelled under a name of its own.
  async invoke({ client: name, event, data, dataType, invocationId, abortable }) {
    const { client, aborts } = clients.get(name);
    const abort = new AbortController();
    if (abortable) aborts.set(abortable, abort);
    const options = { invocationId, abortSignal: abort.signal };
    const reply = await client.invokeEvent(event, outgoing(data, dataType), dataType, options);
    return { ...reply, data: isBytes(reply.dataType) ? toBase64(reply.data) : reply.data };
  },
  abort: ({ client: name, abortable }) => clients.get(name).aborts.get(abortable).abort(),
  // A message of the protocol that the client has no method for, in the words of its codec.
  tellService({ client: name, message }) {
    const { client, protocol } = clients.get(name);
    protocol.say(protocol.writeMessage(message));
    return client.sendEvent("verbatim", "", "text", { fireAndForget: true });
  },
  say({ client: name, text }) {
    const { client, protocol } = clients.get(name);
    protocol.say(text);
    return client.sendEvent("verbatim", "", "text", { fireAndForget: true });
  },
});
