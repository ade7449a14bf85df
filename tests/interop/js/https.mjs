// What the official samples do, with no option of their own: all that is special comes from the environment.
import { WebPubSubServiceClient } from "@azure/web-pubsub";
import { WebPubSubClient } from "@azure/web-pubsub-client";

const service = new WebPubSubServiceClient(process.env.WebPubSubConnectionString, "chat");
const client = new WebPubSubClient({
  getClientAccessUrl: async () =>
    (await service.getClientAccessToken({ userId: "ann", roles: ["webpubsub.joinLeaveGroup.room"] })).url,
});
const messages = [];
const received = new Promise((resolve) => {
  const add = ({ message }) => messages.push(message.data) === 2 && resolve();
  client.on("server-message", add);
  client.on("group-message", add);
});
await client.start();
await client.joinGroup("room");
await service.sendToAll({ to: "all" });
await service.group("room").sendToAll("to the room", { contentType: "text/plain" });
await received;
const members = [];
for await (const member of await service.group("room").listConnections({ maxPageSize: 1 })) members.push(member.userId);
client.stop();
console.log(JSON.stringify({ messages, members }));
process.exit(0);
