// Where a robot says it is: x and y in metres, the heading in radians, from an odometry, a pose or a flat object.

// By the last part of a stream's name, best first, as the server does it for lists.
const STREAMS = ["odom", "pose", "amcl_pose", "status", "default"];

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** {x, y, theta, prefix} or null; `prefix` is the path before `x` and `y`. */
export function poseOf(payload) {
  let path = [];
  let pose = payload;
  for (const name of ["pose", "position"]) {
    if (payload?.[name] && typeof payload[name] === "object") {
      [pose, path] = [payload[name], [name]];
      break;
    }
  }
  while (pose?.pose && typeof pose.pose === "object") [pose, path] = [pose.pose, [...path, "pose"]];
  const inner = pose?.position && typeof pose.position === "object";
  const at = inner ? pose.position : pose;
  if (!isNumber(at?.x) || !isNumber(at?.y)) return null;
  return { x: at.x, y: at.y, theta: heading(pose), prefix: [...path, ...(inner ? ["position"] : [])].join(".") };
}

function heading(pose) {
  const q = pose.orientation;
  if (q && typeof q === "object") {
    const [x, y, z, w] = ["x", "y", "z", "w"].map((axis) => (isNumber(q[axis]) ? q[axis] : 0));
    return Math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z));
  }
  return ["theta", "yaw", "heading"].map((key) => pose[key]).find(isNumber) ?? null;
}

/** How well a stream suits for the path; Infinity where it does not. */
export function poseRank(stream, payload) {
  const found = STREAMS.indexOf(stream.split("/").at(-1));
  if (found < 0 && !payload?.pose) return Infinity;
  return poseOf(payload) ? (found < 0 ? STREAMS.length : found) : Infinity;
}
