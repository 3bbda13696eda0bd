// The same protocol as image_variants.py, for sharp: run with NODE_PATH pointing at an installed `sharp`.
const fs = require("fs");
const path = require("path");
const readline = require("readline");

let sharp;
try {
  sharp = require("sharp");
} catch (error) {
  console.log(JSON.stringify({ error: "sharp is not installed where NODE_PATH points" }));
  process.exit(1);
}
sharp.cache(false);
sharp.concurrency(1);
console.log(JSON.stringify({ ready: true }));

const folder = process.argv[2];
function thumbnail(data, width, height, format) {
  let image = sharp(data).rotate().resize(width, height, { fit: "inside", withoutEnlargement: true });
  if (format === "png") image = image.png({ compressionLevel: 3 });
  else if (format === "webp") image = image.webp({ quality: 80, effort: 0 });
  else image = image.jpeg({ quality: 85 });
  return image.toBuffer();
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [, wanted, file] = /^(\w+) (.*)$/.exec(line);
    const data = fs.readFileSync(file);
    const started = process.cpuUsage();
    try {
      const format = (await sharp(data).metadata()).format;
      const resized = await thumbnail(data, 1024, 768, format);
      const thumb = await thumbnail(resized, 192, 192, format);
      const used = process.cpuUsage(started);
      const answer = wanted === "cpu"
        ? { cpu_s: (used.user + used.system) / 1e6 }
        : { peak_bytes: null }; // Node keeps what it once had: its peak would show nothing
      fs.writeFileSync(path.join(folder, "resized"), resized);
      fs.writeFileSync(path.join(folder, "thumb"), thumb);
      console.log(JSON.stringify(answer));
    } catch (error) {
      console.log(JSON.stringify({ error: String(error) }));
    }
  }
})();
