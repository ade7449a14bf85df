// An event hub for tests: it speaks AMQP 1.0 as Event Hubs does, takes any key, and tells what it gets.
import { createRequire } from "node:module";
import { serve, tell } from "../js/host.mjs";

const require = createRequire(import.meta.url);
const types = require("rhea/lib/types.js");

// The official client reads frames by position, and has its own idea of what is never left out: rhea leaves out what is
// null at the end of a frame, as AMQP allows.
const define = types.define_composite;
types.define_composite = (definition) => {
  const composite = define(definition);
  const described = composite.prototype.described;
  composite.prototype.described = function () {
    if (definition.name === "begin") this.handle_max = 255;
    for (let at = 0; at < definition.fields.length; at++) this.value[at] ??= null;
    return described.call(this);
  };
  return composite;
};

const rhea = require("rhea");
const links = { max_message_size: 1048576, properties: { hub: "test" } };
const container = rhea.create_container({ sender_options: links, receiver_options: { ...links, autoaccept: false } });
let refusing = false;

container.on("sender_open", ({ sender }) => {
  sender.set_source(sender.remote.attach.source);
  sender.set_target(sender.remote.attach.target);
  sender.connection.replies = sender;
});
container.on("receiver_open", ({ receiver }) => {
  receiver.set_source(receiver.remote.attach.source);
  receiver.set_target(receiver.remote.attach.target);
});
container.on("message", ({ message, receiver, delivery }) => {
  const address = receiver.remote.attach.target.address;
  if (address === "$cbs") {
    delivery.accept();
    receiver.connection.replies.send({
      correlation_id: message.message_id,
      application_properties: { "status-code": 202, "status-description": "Accepted" },
      body: "",
    });
    return;
  }
  if (refusing) {
    delivery.reject({ condition: "amqp:not-allowed", description: "refused by the test", info: { by: "test" } });
    return;
  }
  delivery.accept();
  tell("hub", "message", {
    address: new URL(address).pathname.slice(1),
    partitionKey: message.message_annotations["x-opt-partition-key"],
    messageId: message.message_id,
    contentType: message.content_type,
    properties: message.application_properties,
    body: Buffer.from(message.body.content).toString("base64"),
  });
});
// A connection that ends in the middle is the client's affair.
for (const name of ["disconnected", "connection_error", "protocol_error", "error"]) container.on(name, () => {});

serve({
  listen: () =>
    new Promise((resolve) => {
      const options = { host: "127.0.0.1", port: 0, max_frame_size: 65536, channel_max: 10, idle_time_out: 60000 };
      const server = container.listen({ ...options, properties: { hub: "test" } });
      server.on("listening", () => resolve(server.address().port));
    }),
  refuse: ({ on }) => {
    refusing = on;
  },
});
