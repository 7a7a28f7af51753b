"""RoboMimic's tasks, demonstrated by scripted operators who differ, err and recover."""
