// Calls a registry with a client that openapi-typescript has made of its description, and prints the users as JSON.
// What does not compile, or is answered otherwise than the description says, is a failure. The arguments are the
// address, a user of role admin and its password; NODE_EXTRA_CA_CERTS has the CA.
import assert from "node:assert/strict";
import createClient, { type Middleware } from "openapi-fetch";
import type { components, paths } from "./api.js";

const [address, user, password] = process.argv.slice(2);
const login: Middleware = {
  onRequest({ request }) {
    request.headers.set("Authorization", "Basic " + Buffer.from(`${user}:${password}`).toString("base64"));
    return request;
  },
};
const client = createClient<paths>({ baseUrl: address });
client.use(login);

const status = await client.GET("/api/v1/status");
assert(status.data?.healthy, JSON.stringify(status.error));
const version: string = status.data.version;
assert.notEqual(version, "");

const body: components["schemas"]["NewUser"] = { name: "generated", role: "pull", password: "long-enough", repositories: ["team/*"] };
const made = await client.POST("/api/v1/users", { body });
assert.equal(made.response.status, 201);
const created: string | undefined = made.data?.created;
assert(created && !Number.isNaN(Date.parse(created)));

const again = await client.POST("/api/v1/users", { body });
assert.equal(again.response.status, 409);
const refusal: components["schemas"]["Refusal"] | undefined = again.error;
assert.match(refusal?.error ?? "", /there is a user generated already/);

const changed = await client.PUT("/api/v1/users/{name}", { params: { path: { name: "generated" } }, body: { role: "push" } });
assert.equal(changed.data?.role, "push");

const audit = await client.POST("/api/v1/audit", { body: { kind: "administration", user, limit: 2 } });
assert.deepEqual(audit.data?.records?.map((r) => r.event), ["user changed", "user created"]);

// A job: a line of JSON whenever there is progress, and the result as the last.
type Collection = paths["/api/v1/gc"]["post"]["responses"][200]["content"]["application/x-ndjson"];
const gc = await client.POST("/api/v1/gc", { body: { dryRun: true }, parseAs: "text" });
const lines: Collection[] = String(gc.data).trim().split("\n").map((line) => JSON.parse(line) as Collection);
const last = lines.at(-1);
assert(last && "result" in last && last.result.dryRun, String(gc.data));

const users = await client.GET("/api/v1/users");
console.log(JSON.stringify(users.data?.map((u) => u.name)));

const gone = await client.DELETE("/api/v1/users/{name}", { params: { path: { name: "generated" } } });
assert.equal(gone.response.status, 204);
