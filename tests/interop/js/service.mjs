// @azure/web-pubsub: every method of the service client and of its group client, by name.
import { WebPubSubServiceClient, odata } from "@azure/web-pubsub";
import { fromBase64, serve } from "./host.mjs";

const content = ({ data, dataType, ...options }) => {
  if (dataType === "binary") return [fromBase64(data), options];
  return [data, dataType === "text" ? { ...options, contentType: "text/plain" } : options];
};

const pages = async (iterator) => {
  const found = [];
  for await (const page of iterator.byPage()) found.push([...page]);
  return found;
};

serve({
  odata: ({ strings, values }) => odata(strings, ...values),
  async call({ connectionString, hub, group, method, parameters = [], message, options = {} }) {
    // Plain HTTP has to be allowed expressly; everything else is in the connection string.
    const service = new WebPubSubServiceClient(connectionString, hub, { allowInsecureConnection: true });
    const target = group === undefined ? service : service.group(group);
    if (method === "listConnections") return pages(await target.listConnections(options));
    if (message !== undefined) {
      const [data, all] = content({ ...message, ...options });
      return target[method](...parameters, data, all);
    }
    return target[method](...parameters, options);
  },
});
