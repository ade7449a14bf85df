// A client of the protobuf subprotocols that has nothing of Limpet's but the schema: protobufjs over ws.
import protobuf from "protobufjs";
import WebSocket from "ws";
import { serve, tell } from "./host.mjs";

const clients = new Map();
const plain = { longs: Number, bytes: String, oneofs: true };

serve({
  async start({ client: name, url, protocol, schema }) {
    const root = await protobuf.load(schema);
    const [upstream, downstream] = ["UpstreamMessage", "DownstreamMessage"].map((type) => root.lookupType(type));
    const socket = new WebSocket(url, [protocol], { perMessageDeflate: false });
    clients.set(name, { socket, upstream });
    socket.on("message", (data, isBinary) => {
      const message = isBinary ? downstream.toObject(downstream.decode(data), plain) : { text: data.toString() };
      tell(name, "message", message);
    });
    socket.on("close", (code, reason) => tell(name, "closed", { code, reason: reason.toString() }));
    await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
    return socket.protocol;
  },
  say({ client: name, message }) {
    const { socket, upstream } = clients.get(name);
    socket.send(upstream.encode(upstream.fromObject(message)).finish());
  },
  text({ client: name, text }) {
    clients.get(name).socket.send(text);
  },
  drop({ client: name }) {
    clients.get(name).socket.terminate();
  },
  stop({ client: name }) {
    clients.get(name).socket.close(1000);
  },
});
