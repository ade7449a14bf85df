// @azure/web-pubsub-express: application servers that do what a test tells them, and tell what they were asked.
import { WebPubSubEventHandler } from "@azure/web-pubsub-express";
import express from "express";
import { serve, tell, toBase64 } from "./host.mjs";

const servers = new Map();

const asked = (name, request) => {
  const { context, data, dataType } = request;
  const told = dataType === "binary" ? toBase64(data) : data;
  const { claims, queries, headers, subprotocols, reason } = request;
  tell(name, context.eventName, { context, data: told, dataType, claims, queries, headers, subprotocols, reason });
};

// The next answer to an event: what `behave` has queued for it, otherwise what an idle server says.
const next = (server, event) => server.behaviour.get(event)?.shift() ?? {};

async function answer(server, event, response, otherwise) {
  const { states = {}, fail, hold, ...success } = next(server, event);
  if (hold) await new Promise((resolve) => server.held.push(resolve));
  for (const [name, value] of Object.entries(states)) response.setState(name, value);
  if (fail) response.fail(fail.code, fail.detail);
  else otherwise(success);
}

const written = (data, dataType) => (dataType === "json" ? JSON.stringify(data) : data);

const handlerOf = (name, hub, allowedEndpoints) =>
  new WebPubSubEventHandler(hub, {
    allowedEndpoints,
    handleConnect(request, response) {
      asked(name, request);
      answer(servers.get(name), "connect", response, ({ accept }) => response.success(accept));
    },
    onConnected: (request) => asked(name, request),
    onDisconnected: (request) => asked(name, request),
    handleUserEvent(request, response) {
      asked(name, request);
      answer(servers.get(name), request.context.eventName, response, ({ reply = request }) =>
        response.success(written(reply.data, reply.dataType), reply.dataType),
      );
    },
  });

serve({
  async open({ server: name, hub, validation }) {
    const server = { hub, behaviour: new Map(), held: [], handler: handlerOf(name, hub) };
    servers.set(name, server);
    const app = express();
    app.use((request, _, go) => {
      tell(name, "request", { method: request.method, url: request.originalUrl, headers: request.headers });
      go();
    });
    if (validation === "get") {
      app.options("/{*any}", (_, response) => response.sendStatus(404));
      app.get("/{*any}", (_, response) => response.set("WebHook-Allowed-Origin", "*").end());
    }
    app.use((request, response, go) => server.handler.getMiddleware()(request, response, go));
    await new Promise((resolve) => (server.http = app.listen(0, "127.0.0.1", resolve)));
    return `http://127.0.0.1:${server.http.address().port}${server.handler.path}`;
  },
  allow({ server: name, endpoints }) {
    const server = servers.get(name);
    server.handler = handlerOf(name, server.hub, endpoints);
  },
  behave({ server: name, event, answers }) {
    servers.get(name).behaviour.set(event, answers);
  },
  release({ server: name }) {
    servers.get(name).held.splice(0).forEach((resolve) => resolve());
  },
  close({ server: name }) {
    const { http, held } = servers.get(name);
    held.forEach((resolve) => resolve());
    http.closeAllConnections();
    http.close();
    servers.delete(name);
  },
});
