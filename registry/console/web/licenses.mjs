// Prints the licences of what ../static has of others.
import { readFileSync } from "node:fs";

const of = (name) => {
  const { version, license } = JSON.parse(readFileSync(`node_modules/${name}/package.json`));
  return { title: `${name} ${version}: ${license}`, dir: `node_modules/${name}/` };
};

for (const name of ["htmx.org", "htmx-ext-sse"]) {
  const { title, dir } = of(name);
  console.log(`${title}\n\n${readFileSync(dir + "LICENSE", "utf8").trim()}\n\n---\n`);
}
// The package has no copy of its licence.
console.log(`${of("@patternfly/patternfly").title}

Copyright (c) Red Hat, Inc.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy,
modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

---

The fonts, which the package brings: Red Hat Display, Red Hat Mono and Red Hat Text, copyright the Red Hat Project Authors,
and Font Awesome 5 Free, copyright Fonticons, Inc.: SIL Open Font License 1.1, https://openfontlicense.org`);
