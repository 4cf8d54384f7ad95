/* Holds the namespaces of a pod: waits, reaps what is orphaned, ends when told to. */

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc > 1) {
    /* Runtimes ask nothing of it, people may. */
    printf("%s: holds the namespaces of a pod; takes no arguments\n", argv[0]);
    return argv[1][0] == '-' ? 0 : 2;
  }
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGCHLD);
  /* Blocked and then waited for, so that none is lost in between. As the first process of a PID
     namespace it would not even see what it does not ask for. */
  if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) {
    perror("pause: sigprocmask");
    return 1;
  }
  for (;;) {
    int signal = 0;
    if (sigwait(&set, &signal) != 0) {
      return 1;
    }
    if (signal != SIGCHLD) {
      return 0;
    }
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
  }
}
