// The servers of the official samples in one: @azure/web-pubsub and @azure/web-pubsub-express, one hub for each sample.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { WebPubSubServiceClient } from "@azure/web-pubsub";
import { WebPubSubEventHandler } from "@azure/web-pubsub-express";
import express from "express";
import { serve } from "../host.mjs";

const require = createRequire(import.meta.url);
const { Doc } = require("yjs");
const { WebPubSubSyncHost } = require("y-azure-webpubsub");

const { SAMPLE_CONNECTION_STRING, SAMPLE_LISTENER } = process.env;
const hubOf = (sample) => `${sample}_js`;
const clientOf = (sample) =>
  new WebPubSubServiceClient(SAMPLE_CONNECTION_STRING, hubOf(sample), { allowInsecureConnection: true });
const services = new Map(
  ["pubsub", "chat", "logstream", "reliable", "draw", "code", "yjs"].map((sample) => [sample, clientOf(sample)]),
);
const app = express();

const handle = (sample, handlers) =>
  app.use(new WebPubSubEventHandler(hubOf(sample), { path: `/eventhandler/${sample}`, ...handlers }).getMiddleware());

const negotiate = (sample, options) =>
  app.get(`/${sample}/negotiate`, async (request, response) => {
    const { url } = await services.get(sample).getClientAccessToken(options(request.query));
    response.json({ url });
  });

// ---- Publish and subscribe

negotiate("pubsub", () => ({}));
app.post("/pubsub/publish", express.text(), async (request, response) => {
  await services.get("pubsub").sendToAll(request.body, { contentType: "text/plain" });
  response.end();
});

// ---- Chat with event handlers

negotiate("chat", ({ id }) => ({ userId: id }));
const say = (from, message) => services.get("chat").sendToAll({ from, message });
handle("chat", {
  onConnected: ({ context }) => say("[System]", `${context.userId} joined`),
  onDisconnected: ({ context }) => say("[System]", `${context.userId} left`),
  async handleUserEvent({ context, data }, response) {
    if (context.eventName === "message") await say(context.userId, data);
    response.success();
  },
});

// ---- Log stream, also of protobuf clients; reliable chat

negotiate("logstream", () => ({ roles: ["webpubsub.sendToGroup.stream", "webpubsub.joinLeaveGroup.stream"] }));
negotiate("reliable", ({ id }) => ({ userId: id, roles: ["webpubsub.sendToGroup", "webpubsub.joinLeaveGroup"] }));

// ---- Whiteboard

const diagram = { shapes: {}, background: null, users: 0 };
const tellUsers = () => services.get("draw").group("draw").sendToAll({ name: "updateUser", data: diagram.users });
negotiate("draw", () => ({ roles: ["webpubsub.sendToGroup.draw"] }));
handle("draw", {
  handleConnect: (_, response) => response.success({ groups: ["draw"] }),
  async onConnected() {
    diagram.users += 1;
    await tellUsers();
  },
  async onDisconnected() {
    diagram.users -= 1;
    await tellUsers();
  },
  handleUserEvent({ data: { name, data } }, response) {
    if (name === "addShape") diagram.shapes[data[0]] = data[1];
    else if (name === "removeShape") delete diagram.shapes[data];
    response.success();
  },
});
app.get("/draw/diagram", (_, response) => response.json({ shapes: diagram.shapes }));
app.post("/draw/background", express.raw({ type: "image/*" }), async (request, response) => {
  diagram.background = request.body;
  await services.get("draw").sendToAll({ name: "updateBackground", data: request.body.length });
  response.end();
});

// ---- Code stream: claims are looked up by the long names, as the sample does

const ROLE = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role";
const NAME = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier";
const rooms = {};
app.get("/code/negotiate", async ({ query }, response) => {
  const id = query.id ?? "room";
  rooms[id] ??= {};
  const roles = [id, `${id}-control`].flatMap((group) =>
    ["sendToGroup", "joinLeaveGroup"].map((right) => `webpubsub.${right}.${group}`),
  );
  const { url } = await services.get("code").getClientAccessToken({ userId: query.user, roles });
  response.json({ id, url });
});
handle("code", {
  handleConnect({ claims }, response) {
    rooms[claims[ROLE][0].split(".")[2]][claims[NAME][0]] = "online";
    response.success();
  },
  handleUserEvent({ data }, response) {
    response.success(JSON.stringify({ users: rooms[JSON.parse(data).group] }), "json");
  },
});

// ---- Documents that several people edit: the host of y-azure-webpubsub, unchanged

negotiate("yjs", ({ userId, role }) => ({ userId, roles: [role].flat() }));
app.post("/yjs/host", async (_, response) => {
  await new WebPubSubSyncHost(services.get("yjs"), "topic", new Doc(), {}).start();
  response.json({ started: true });
});

await new Promise((resolve) => createServer(app).listen({ fd: Number(SAMPLE_LISTENER) }, resolve));
serve({});
