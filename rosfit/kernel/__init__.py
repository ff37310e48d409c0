"""What everything else stands on: errors, ports, clock, ids, paging. No I/O; imports nothing of ours."""
