// The data of one charted field: points in buckets, and where it was silent.

// A stream is silent when this many of its usual intervals pass without a sample.
const SILENT = 3;

export class Line {
  #counts = 0;

  constructor(stream, key) {
    Object.assign(this, { stream, key, times: [], values: [], bucket_s: 1, gap_s: 3 });
  }

  get id() {
    return `${this.stream}\n${this.key}`;
  }

  /** What the server computed: bucket starts as text, a number or null for each. */
  load(times, values, bucket_s) {
    this.bucket_s = bucket_s;
    this.times = [];
    this.values = [];
    this.#counts = 0;
    const moments = times.map((time) => Date.parse(time) / 1000);
    const found = moments.filter((_, at) => values[at] !== null);
    this.gap_s = Math.max(SILENT * median(differences(found)), 2.5 * bucket_s);
    moments.forEach((time_s, at) => {
      if (values[at] !== null) this.#push(time_s, values[at]);
    });
  }

  /** One live sample: into the mean of its bucket, as the server does it. */
  add(time_s, value) {
    const bucket = Math.floor(time_s / this.bucket_s) * this.bucket_s;
    const last = this.times.at(-1);
    if (last !== undefined && bucket < last) return;
    if (last !== undefined && bucket - last < this.bucket_s / 2) {
      this.#counts += 1;
      this.values[this.values.length - 1] += (value - this.values.at(-1)) / this.#counts;
    } else {
      this.#push(bucket, value);
      this.#counts = 1;
    }
  }

  #push(time_s, value) {
    const last = this.times.at(-1);
    if (last !== undefined && time_s - last > this.gap_s) {
      this.times.push(last + this.bucket_s / 2);
      this.values.push(null);
    }
    this.times.push(time_s);
    this.values.push(value);
  }

  /** Forget what has left the window. */
  trim(from_s) {
    const gone = this.times.findIndex((time_s) => time_s >= from_s - this.bucket_s);
    if (gone > 64) {
      this.times.splice(0, gone);
      this.values.splice(0, gone);
    }
  }

  at(time_s) {
    let best = null;
    let distance = this.gap_s;
    for (let i = this.times.length - 1; i >= 0; i -= 1) {
      const away = Math.abs(this.times[i] - time_s);
      if (away <= distance && this.values[i] !== null) [best, distance] = [this.values[i], away];
      else if (this.times[i] < time_s - this.gap_s) break;
    }
    return best;
  }

  get newest() {
    return this.values.findLast((value) => value !== null) ?? null;
  }
}

function differences(times) {
  return times.slice(1).map((time, at) => time - times[at]);
}

function median(numbers) {
  if (!numbers.length) return 0;
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
}
