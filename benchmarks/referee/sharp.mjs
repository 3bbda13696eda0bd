// sharp as a judge: reads lines of JSON {file, out, side, strict}, writes the picture to `out` as PNG, and answers each
// with {error} or {}. NODE_PATH does not reach modules, so the folder that has sharp is the first argument.
import { createRequire } from "node:module";
import readline from "node:readline";

const sharp = createRequire(`${process.argv[2]}/`)("sharp");
sharp.cache(false);
sharp.concurrency(1);
console.log(JSON.stringify({ version: sharp.versions.sharp }));

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { file, out, side, strict } = JSON.parse(line);
  try {
    await sharp(file, { failOn: strict ? "warning" : "none" })
      .autoOrient()
      .resize(side, side, { fit: "inside", withoutEnlargement: true })
      .toColourspace("srgb")
      .timeout({ seconds: 30 })
      .png({ compressionLevel: 1 })
      .toFile(out);
    console.log("{}");
  } catch (error) {
    console.log(JSON.stringify({ error: String(error.message ?? error) }));
  }
}
